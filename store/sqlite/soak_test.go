//go:build soak

package sqlite_test

import "testing"

// 1,000 random damages in all (D17), and 200 kills (D1).
func TestSoakDamage(t *testing.T) { damageMany(t, 500) }

func TestSoakKill(t *testing.T) { killMany(t, 200) }
