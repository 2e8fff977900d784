package types

import (
	"testing"
)

func TestEmbedded_probe(t *testing.T) {
	for _, l := range Layouts() {
		names := l.TypeNames()
		_, err := l.Type("_KTHREAD")
		t.Log(l.Origin(), len(names), err, l.AcceptSizes("_EPROCESS"), l.AcceptSizes("_KTHREAD"))
	}
	for _, id := range Kernels() {
		l, g, ok := EmbeddedByGUID(id.GUID, id.Age)
		if !ok {
			t.Fatal(id)
		}
		p, err := l.Type("_EPROCESS")
		if err != nil || p.Size != g.SizeEProcess() {
			t.Errorf("%v: %v %#x", l.Origin(), err, p.Size)
		}
	}
	for _, b := range []uint32{7600, 7601, 9200, 10240, 15063, 18363, 19045, 22621, 26100} {
		for _, l := range Embedded(b) {
			t.Log(b, l.Origin())
		}
	}
}
