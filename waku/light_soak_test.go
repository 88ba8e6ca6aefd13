//go:build soak

package waku_test

import "testing"

func TestSoakLightMemberComesAndGoes(t *testing.T) { comesAndGoes(t, 1000) }
