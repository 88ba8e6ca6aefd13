package spool

// Sync has nothing to do: the file system's journal covers directories, and they
// can't be synced.
func (directory) Sync() error { return nil }
