package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/status-im/shoal/internal/scale"
)

//go:embed picture.svg
var pictureSVG string

var picture = template.Must(template.New("picture").Funcs(template.FuncMap{
	"n": func(x float64) string { return fmt.Sprintf("%.4g", x) },
}).Parse(pictureSVG))

// pictureData is a plot that stands for itself, in a document.
type pictureData struct {
	*plot
	CSS                   template.CSS
	FullWidth, FullHeight float64
}

// Row is where a line of the legend stands.
func (d pictureData) Row(i int) float64 { return d.Bottom + 56 + 22*float64(i) }

// pictureCSS is what of the page's style pictures use.
var pictureCSS = func() template.CSS {
	var b strings.Builder
	for _, rule := range regexp.MustCompile(`(?ms)^(:root|@media).*?^}$|^(text|polyline|\.grid|\.mark|\.tick) .*?$`).FindAllString(pageCSS, -1) {
		b.WriteString(rule)
		b.WriteByte('\n')
	}
	return template.CSS(b.String())
}()

// writePictures writes each plot of runs to a file of its own.
func writePictures(dir string, runs []*scale.Result) error {
	for name, draw := range map[string]func([]*scale.Result) *plot{
		"bandwidth": bandwidth, "latency": latencies, "copies": copies, "by-size": bySize, "trouble": delivery, "held": held,
	} {
		p := draw(runs)
		if p == nil {
			continue
		}
		d := pictureData{plot: p, CSS: pictureCSS, FullWidth: p.Width + 40}
		d.FullHeight = 52 + d.Row(len(p.Legend))
		var b bytes.Buffer
		if err := picture.Execute(&b, d); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+".svg"), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
