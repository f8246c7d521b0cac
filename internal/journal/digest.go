package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Digest identifies parameters by their value: those that say the same have the same
// digest, whatever the order of names, the blanks, and the way in which numbers and
// texts are written. No parameters at all are an empty object. What is not JSON is
// identified by its bytes.
//
// A key is for one run, so a second one must be compared with the first even if its
// parameters were too long to be kept, or had to make room.
func Digest(params json.RawMessage) string {
	if len(params) == 0 {
		params = json.RawMessage("{}")
	}
	canonical := []byte(params)
	dec := json.NewDecoder(bytes.NewReader(params))
	dec.UseNumber()
	var v any
	if json.Valid(params) && dec.Decode(&v) == nil {
		if b, err := json.Marshal(sameNumbers(v)); err == nil { // with sorted names
			canonical = b
		}
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:])
}

// sameNumbers writes equal numbers of a value equally.
func sameNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		return json.Number(numberText(string(v)))
	case []any:
		for i := range v {
			v[i] = sameNumbers(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = sameNumbers(v[name])
		}
	}
	return v
}

// numberText writes a number: one that is an integer, as that, with all its digits.
func numberText(s string) string {
	if !strings.ContainsAny(s, ".eE") {
		if i, ok := new(big.Int).SetString(s, 10); ok {
			return i.String() // -0 is 0
		}
	}
	const exact = 1 << 53 // up to which a float64 has every integer
	f, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil:
		return s // out of range
	case f == math.Trunc(f) && math.Abs(f) < exact:
		return strconv.FormatInt(int64(f), 10)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}
