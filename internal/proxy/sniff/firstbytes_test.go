package sniff

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"

	"sluice.dev/sluice/internal/policy"
)

// The first bytes of clients, as they were captured; versions of a machine are zeros.
const (
	// pymongo 4.20.1: OP_MSG ismaster. Its request id is random.
	pymongo = "4a01000067458b6b00000000dd0700000000000000350100001069736d617374657200010000000868656c6c6f4f6b0001026261636b70726573737572650002000000320003636c69656e7400ed00000003647269766572002e000000026e616d65000a00000050794d6f6e676f7c63000276657273696f6e0008000000342e32302e317c0000036f73005b000000027479706500060000004c696e757800026e616d6500060000004c696e7578000261726368697465637475726500070000007838365f3634000276657273696f6e0010000000302e302e30302d30302d3030303030000002706c6174666f726d001700000043507974686f6e20332e31312e372e66696e616c2e300003656e76002900000003636f6e7461696e657200190000000272756e74696d650007000000646f636b65720000000002246462000600000061646d696e0000"
	// redis-py 8.1.0: HELLO 3.
	redisPy = "2a320d0a24350d0a48454c4c4f0d0a24310d0a330d0a"
)

func TestTheFirstBytesOfDatabasesAreBytes(t *testing.T) {
	for name, text := range map[string]string{"pymongo": pymongo, "redis-py": redisPy} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		for at := 1; at <= len(b); at++ {
			if r, need := Parse(b[:at]); r.Kind != policy.Opaque || r.Err != nil || at == len(b) && need != 0 {
				t.Fatalf("%s: after %d bytes %+v, need %d", name, at, r, need)
			}
		}
	}
}

// A message of MongoDB that is 790 bytes long begins like a record of TLS, and with one
// request id in 256 like a hello in it.
func TestNoMongoDBMessageOf790BytesIsRefused(t *testing.T) {
	b, err := hex.DecodeString(pymongo)
	if err != nil {
		t.Fatal(err)
	}
	message := slices.Concat(b, make([]byte, 790-len(b)))
	binary.LittleEndian.PutUint32(message, 790)
	for high := range 1 << 16 {
		for _, low := range []byte{0, 1, 3, 4, 7, 0x16, 0x67, 0xff} {
			copy(message[4:], []byte{low, 1, byte(high), byte(high >> 8)})
			// In one of eight million an empty record follows one of a byte, as OpenSSL takes it.
			taken := low == 1 && (byte(high) == recordHandshake || byte(high) == recordHighest)
			if r, need := Parse(message); !taken && (need != 0 || r.Kind != policy.Opaque) {
				t.Fatalf("request id %x: %+v, need %d", message[4:8], r, need)
			}
		}
	}
}
