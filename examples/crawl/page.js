const map = document.getElementById("map");
for (const hub of map.querySelectorAll("[data-hub]")) {
  const key = hub.dataset.hub;
  const show = () => {
    map.classList.add("focus");
    for (const one of map.querySelectorAll("[data-shards]")) {
      one.classList.toggle("on", one.dataset.shards.split(" ").includes(key));
    }
  };
  const hide = () => map.classList.remove("focus");
  hub.addEventListener("mouseenter", show);
  hub.addEventListener("focus", show);
  hub.addEventListener("mouseleave", hide);
  hub.addEventListener("blur", hide);
}
const rows = document.querySelectorAll("#nodes tbody tr");
document.getElementById("filter").addEventListener("input", event => {
  const text = event.target.value.toLowerCase();
  for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(text);
});
