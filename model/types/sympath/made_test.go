package sympath

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"gokd/model/types"
)

// makePDB gives a program database with an identity and nothing else: a
// superblock, the information stream and the directory, in blocks of 0x200
// bytes (LLVM docs/PDB/MsfFile.rst and PdbStream.rst). pad adds blocks.
func makePDB(t testing.TB, guid string, age uint32, pad int) []byte {
	t.Helper()
	g, err := types.ParseGUID(guid)
	if err != nil {
		t.Fatal(err)
	}
	const block = 0x200
	le := binary.LittleEndian
	b := make([]byte, (5+pad)*block)
	copy(b, "Microsoft C/C++ MSF 7.00\r\n\x1aDS\x00\x00\x00")
	for i, v := range []uint32{block, 1, uint32(5 + pad), 4 * 4, 0, 3} {
		le.PutUint32(b[0x20+4*i:], v)
	}
	info := b[2*block:]
	le.PutUint32(info, 20000404)
	le.PutUint32(info[8:], age)
	copy(info[12:], g[:])
	le.PutUint32(b[3*block:], 4) // the directory's block
	for i, v := range []uint32{2, 0, 48, 2} {
		le.PutUint32(b[4*block+4*i:], v) // two streams: empty, and the information
	}
	for i := range pad * block {
		b[5*block+i] = byte(i * 7)
	}
	return b
}

// makeImage gives the headers of an image without sections (the PE format).
func makeImage(stamp, size uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, 0x400)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	copy(b[0x80:], "PE\x00\x00")
	le.PutUint16(b[0x84:], 0x8664)
	le.PutUint32(b[0x88:], stamp)
	le.PutUint16(b[0x94:], 240)
	le.PutUint16(b[0x98:], 0x20b)
	le.PutUint32(b[0x98+32:], 0x1000)
	le.PutUint32(b[0x98+36:], 0x200)
	le.PutUint32(b[0x98+56:], size)
	le.PutUint32(b[0x98+60:], 0x400)
	return b
}

func testID(t testing.TB) types.ImageID {
	t.Helper()
	g, err := types.ParseGUID(testGUID)
	if err != nil {
		t.Fatal(err)
	}
	return types.ImageID{Name: "t.sys", PDB: `c:\src\T.pdb`, GUID: g, Age: 3}
}

// testKey is the folder of testID's PDB in a store.
const testKey = testGUID + "3"

// write makes a file with its folders.
func write(t testing.TB, text string, parts ...string) string {
	t.Helper()
	file := filepath.Join(parts...)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// under gives all files below a folder, with slashes.
func under(t testing.TB, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			list = append(list, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return list
}
