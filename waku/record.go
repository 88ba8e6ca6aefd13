package waku

type recordKeeper struct{}

func (n *Node) openRecord() error { return nil }
func (n *Node) refreshRecord()    {}

// ENR is the node's signed record (31/WAKU2-ENR) in its text form, "enr:…": key,
// address, capabilities and joined shards. Its sequence number grows with every
// change.
func (n *Node) ENR() string { return "" }
