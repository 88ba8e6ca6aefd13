package storetest_test

import (
	"testing"

	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/storetest"
)

func inMemory(testing.TB) storetest.Place {
	m := storetest.NewModel(storetest.Config{})
	return storetest.Place{
		Open:   func(c storetest.Config) (store.Archive, error) { return m.Reopen(c), nil },
		Shared: true,
	}
}

func TestModel(t *testing.T) { storetest.Run(t, inMemory) }
