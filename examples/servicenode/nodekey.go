package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/status-im/shoal/waku"
)

// nodeKey reads the node's identity, or makes one that only the owner can read.
// Without a file name it returns nil.
func nodeKey(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return newNodeKey(file)
	case err != nil:
		return nil, wrong("--nodekey-file: %v", err)
	}
	key, err := waku.ParseNodeKey(string(text))
	if err != nil {
		return nil, wrong("--nodekey-file %s: want 32 bytes in hex: %v; move the file away to get a new identity", file, err)
	}
	return key, nil
}

func newNodeKey(file string) ([]byte, error) {
	key := waku.GenerateNodeKey()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, wrong("--nodekey-file %s: the directory doesn't exist; make it first", file)
	}
	if err != nil {
		return nil, wrong("--nodekey-file: %v", err)
	}
	_, err = fmt.Fprintln(f, hex.EncodeToString(key))
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(file)
		return nil, fmt.Errorf("--nodekey-file: %w", err)
	}
	return key, nil
}
