package resource_test

import (
	"context"
	"testing"

	"gokd/model/modeltest"
	"gokd/model/resource"
	"gokd/model/types"
)

// BenchmarkAll walks 20,000 resources, one in a hundred of them held.
func BenchmarkAll(b *testing.B) {
	const n = 20000
	for _, build := range []uint32{7601, 19041} {
		l := types.Embedded(build)[0]
		b.Run(l.Family(), func(b *testing.B) {
			m := modeltest.New(b, l)
			owner := m.Thread(m.System, 0x10)
			for i := range n {
				r := m.Resource()
				if i%100 == 0 {
					m.Set(r, 1, "_ERESOURCE", "ActiveCount")
					m.Set(r, 0x80, "_ERESOURCE", "Flag")
					m.Set(r, uint64(owner), "_ERESOURCE", "OwnerEntry", "OwnerThread")
				}
			}
			k := m.Open()
			b.ReportAllocs()
			for b.Loop() {
				held := 0
				for r, err := range resource.All(context.Background(), k) {
					if err != nil {
						b.Fatal(err)
					}
					if r.Held() {
						held++
					}
				}
				if held != n/100 {
					b.Fatalf("%d held", held)
				}
			}
		})
	}
}
