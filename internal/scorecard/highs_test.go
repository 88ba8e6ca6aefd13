package scorecard

import "math/big"

var order, _ = new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)

// highS is the other valid form of a signature.
func highS(sig []byte) []byte {
	s := new(big.Int).SetBytes(sig[32:])
	out := append([]byte(nil), sig...)
	s.Sub(order, s).FillBytes(out[32:])
	return out
}
