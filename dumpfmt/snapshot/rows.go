package snapshot

import (
	"errors"
	"strconv"
	"strings"
)

var (
	errRow    = errors.New("want module!function+0x1f, or the line as kd prints it: child-sp, return address, call site")
	errOffset = errors.New("the offset into a function is at most 0xffff")
)

// maxOffset bounds the offset of a call site in its function.
const maxOffset = 0xffff

// parseRow reads "module!function+0x1f", with " (TrapFrame)" behind it where
// an interrupt or a system call came in, or a line of kd's k command:
//
//	fffff880`07fabd60 fffff800`0227e741 nt!KySwitchKernelStackCallout+0x27 (TrapFrame @ fffff880`07fabc20)
func parseRow(line string) (r row, err error) {
	fields := strings.Fields(line)
	if len(fields) >= 3 && isAddress(fields[0]) && isAddress(fields[1]) {
		r.exact = true
		if r.sp, err = parseNumber(fields[0]); err != nil {
			return r, errRow
		}
		if r.ret, err = parseNumber(fields[1]); err != nil {
			return r, errRow
		}
		fields = fields[2:]
	}
	if err := r.parseSite(fields[0]); err != nil {
		return r, err
	}
	return r, r.parseTrap(fields[1:])
}

// isAddress reports 16 hex digits with a back-tick in the middle or without.
func isAddress(s string) bool {
	s = strings.ReplaceAll(s, "`", "")
	_, err := strconv.ParseUint(s, 16, 64)
	return len(s) == 16 && err == nil
}

func (r *row) parseSite(site string) error {
	site, offset, ok := strings.Cut(site, "+0x")
	if ok {
		v, err := strconv.ParseUint(offset, 16, 32)
		if err != nil || v > maxOffset {
			return errOffset
		}
		r.offset, r.hasOffset = uint32(v), true
	}
	module, function, ok := strings.Cut(site, "!")
	if !ok {
		module, function = "", site
	}
	for _, name := range []string{module, function} {
		if len(name) > maxName || strings.ContainsAny(name, "()!\"'\\/ `") {
			return errRow
		}
	}
	if function == "" || ok && module == "" || !ok && (r.exact || r.hasOffset) {
		return errRow
	}
	r.module, r.function = module, function
	return nil
}

func (r *row) parseTrap(fields []string) (err error) {
	rest := strings.Join(fields, " ")
	switch {
	case rest == "":
		return nil
	case rest == "(TrapFrame)":
		r.trap = true
		return nil
	}
	addr, ok := strings.CutPrefix(rest, "(TrapFrame @ ")
	addr, ok2 := strings.CutSuffix(addr, ")")
	if !ok || !ok2 || !r.exact || !isAddress(addr) {
		return errRow
	}
	r.trap = true
	r.trapAt, err = parseNumber(addr)
	return err
}
