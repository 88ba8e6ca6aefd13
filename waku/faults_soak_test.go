//go:build soak

package waku_test

import (
	"testing"
	"time"
)

func TestSoakRandomFaults(t *testing.T) { randomFaults(t, 1000, 1000) }

func TestSoakTwelveHoursAway(t *testing.T) { longAway(t, 12*time.Hour) }
