package index

import (
	"fmt"
	"hash/crc32"

	"gokd/model/types"
)

// decode takes a file of the cache; data belongs to the table afterwards.
//
// Everything that a later read relies on is checked here, once: sums, that
// every offset and number leads inside, that names, types and members lie in
// order. No later read can fail, so a file that lies is a miss from the start.
func decode(data []byte) (*Table, error) {
	list, err := readHeader(data, int64(len(data)))
	if err != nil {
		return nil, err
	}
	t := new(Table)
	for i, s := range list {
		t.raw[i] = data[s.off : s.off+s.len : s.off+s.len]
		if crc32.Checksum(t.raw[i], castagnoli) != s.sum {
			return nil, fmt.Errorf("section %d: wrong sum", i)
		}
	}
	if t.meta, err = decodeMeta(t.raw[secMeta]); err != nil {
		return nil, err
	}
	t.names, t.text = string(t.raw[secNames]), string(t.raw[secText])
	for _, check := range []func() error{t.checkText, t.checkSymbols, t.checkLookups, t.checkTypes, t.checkChains} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	// Only the copies are read from here on.
	t.raw[secMeta], t.raw[secNames], t.raw[secText] = nil, nil, nil
	return t, nil
}

func (t *Table) checkText() error {
	if err := checkEnds(t.raw[secNameEnd], len(t.names)); err != nil {
		return fmt.Errorf("names: %w", err)
	}
	if err := checkEnds(t.raw[secTextEnd], len(t.text)); err != nil {
		return fmt.Errorf("names of types: %w", err)
	}
	if n, syms := t.count(secNameEnd), t.count(secSyms); n != syms {
		return fmt.Errorf("%d names of %d symbols", n, syms)
	}
	return nil
}

// checkEnds wants ends in order, the last one at the end of the text.
func checkEnds(ends []byte, size int) error {
	last := uint32(0)
	for ; len(ends) >= 4; ends = ends[4:] {
		end := le.Uint32(ends)
		if end < last {
			return fmt.Errorf("end at %#x after %#x", end, last)
		}
		last = end
	}
	if int(last) != size {
		return fmt.Errorf("end at %#x of %#x", last, size)
	}
	return nil
}

func (t *Table) checkSymbols() error {
	ntypes, nsyms := uint32(t.count(secTypes)), uint32(t.count(secSyms))
	for rec := t.raw[secSyms]; len(rec) > 0; rec = rec[symbolSize:] {
		if typ := le.Uint32(rec[8:]); typ > ntypes || types.SymbolKind(rec[12]) > types.SymData {
			return fmt.Errorf("symbol of type %d, kind %d", typ, rec[12])
		}
	}
	last := int64(-1)
	for rec := t.raw[secAddrs]; len(rec) > 0; rec = rec[addrSize:] {
		rva, n := int64(le.Uint32(rec)), le.Uint32(rec[4:])
		if n >= nsyms || rva <= last {
			return fmt.Errorf("address %#x after %#x, of symbol %d of %d", rva, last, n, nsyms)
		}
		last = rva
	}
	return nil
}

func (t *Table) checkLookups() error {
	ntext, nsyms, ntypes := uint32(t.count(secTextEnd)), uint32(t.count(secSyms)), uint32(t.count(secTypes))
	for rec := t.raw[secAliases]; len(rec) > 0; rec = rec[aliasSize:] {
		if le.Uint32(rec) >= ntext || le.Uint32(rec[4:]) >= nsyms {
			return fmt.Errorf("second name %d of symbol %d", le.Uint32(rec), le.Uint32(rec[4:]))
		}
	}
	for rec := t.raw[secLookup]; len(rec) > 0; rec = rec[lookupSize:] {
		if le.Uint32(rec) >= ntext || le.Uint32(rec[4:])&^listed >= ntypes {
			return fmt.Errorf("name %d of type %d", le.Uint32(rec), le.Uint32(rec[4:]))
		}
	}
	return nil
}

// checkTypes wants members one after the other, so that they can't be counted
// twice, and what a type holds by value before it, so that none holds itself.
func (t *Table) checkTypes() error {
	n, ntext := t.count(secTypes), uint32(t.count(secTextEnd))
	if n > maxTypes {
		return fmt.Errorf("more than %d types", maxTypes)
	}
	firsts := make([]uint32, n)
	depth := make([]uint8, n)
	var fields, consts uint64
	for i := range n {
		rec := t.raw[secTypes][i*typeSize:]
		kind, elem, members := types.Kind(rec[4]), le.Uint32(rec[12:]), le.Uint32(rec[20:])
		if le.Uint32(rec) >= ntext || kind > types.KindFunction || elem > uint32(n) {
			return fmt.Errorf("type %d: name %d, kind %d, element %d", i, le.Uint32(rec), kind, elem)
		}
		if kind == types.KindArray && elem > 0 {
			if elem > uint32(i) {
				return fmt.Errorf("type %d: array of type %d", i, elem)
			}
			depth[i] = depth[elem-1] + 1
		}
		first := &fields
		if kind == types.KindEnum {
			first = &consts
		}
		firsts[i] = uint32(*first)
		if err := t.checkMembers(kind, rec[5], *first, members); err != nil {
			return fmt.Errorf("type %d: %w", i, err)
		}
		if kind != types.KindEnum {
			for f := t.raw[secFields][*first*fieldSize : (*first+uint64(members))*fieldSize]; len(f) > 0; f = f[fieldSize:] {
				typ := le.Uint32(f[4:])
				if le.Uint32(f) >= ntext || typ >= uint32(i) || f[12] > 63 || f[13] > 64 {
					return fmt.Errorf("type %d: field %d of type %d", i, le.Uint32(f), typ)
				}
				depth[i] = max(depth[i], depth[typ]+1)
			}
		}
		if depth[i] > maxNesting+1 {
			return fmt.Errorf("type %d: more than %d levels of members", i, maxNesting)
		}
		*first += uint64(members)
	}
	if fields != uint64(t.count(secFields)) || consts != uint64(t.count(secConsts)) {
		return fmt.Errorf("%d fields and %d constants that belong to no type", t.count(secFields), t.count(secConsts))
	}
	for c := t.raw[secConsts]; len(c) > 0; c = c[constSize:] {
		if le.Uint32(c) >= ntext {
			return fmt.Errorf("constant: name %d", le.Uint32(c))
		}
	}
	t.firsts = firsts
	return nil
}

// checkMembers compares a type's number of members with what is left.
func (t *Table) checkMembers(kind types.Kind, flags byte, first uint64, members uint32) error {
	left := uint64(t.count(secFields))
	if kind == types.KindEnum {
		left = uint64(t.count(secConsts))
		if flags&hasConsts == 0 && members > 0 {
			return fmt.Errorf("%d constants, want none", members)
		}
	}
	if first+uint64(members) > left {
		return fmt.Errorf("%d members at %d of %d", members, first, left)
	}
	return nil
}

// checkChains wants an end to every chain of pointers and arrays.
func (t *Table) checkChains() error {
	for i := range t.count(secTypes) {
		at := i
		for n := 0; ; n++ {
			rec := t.raw[secTypes][at*typeSize:]
			elem := le.Uint32(rec[12:])
			if elem == 0 || isNamed(types.Kind(rec[4])) {
				break
			}
			if n > maxChain {
				return fmt.Errorf("type %d: more than %d pointers and arrays", i, maxChain)
			}
			at = int(elem - 1)
		}
	}
	return nil
}
