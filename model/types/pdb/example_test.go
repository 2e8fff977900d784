package pdb_test

import (
	"fmt"
	"log"

	"gokd/model/types/pdb"
)

func ExampleOpen() {
	f, err := pdb.Open("../../../testdata/pdb/driver.pdb")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	t, err := f.Type("_UNICODE_STRING")
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range t.Fields {
		fmt.Printf("+%#x %s %s\n", m.Offset, m.Name, m.Type.Name)
	}
	if sym, ok := f.Lookup("EvtDeviceAdd"); ok {
		line, err := f.LineAt(sym.RVA)
		fmt.Println(sym.Name, line.File, line.Line, err)
	}
	// Output:
	// +0x0 Length unsigned short
	// +0x2 MaximumLength unsigned short
	// +0x8 Buffer *wchar
	// EvtDeviceAdd c:\src\driver.c 145 <nil>
}
