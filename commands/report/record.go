// Package report turns what commands find out into text or JSON.
//
// Commands emit records; a Sink renders them: as kd prints them, as one JSON
// object per line, or into memory for tests. It is the only package that knows
// colours. It knows no kernel and no command.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
	"unicode/utf8"
)

// Record is one thing that a command found.
type Record interface {
	// Type is the record's stable name in JSON: "thread", "resource".
	Type() string
	// WriteText writes the record as kd would print it.
	WriteText(p *Printer)
}

// Appender is implemented by records of which an answer may hold millions: it
// appends the record's own fields as they stand between the braces of its JSON
// object, exactly as encoding/json would write them.
type Appender interface{ AppendFields(to []byte) []byte }

// TextAppender is implemented by records of which an answer may hold millions:
// it appends what WriteText writes. The text is plain: of the bytes that come
// from a dump only printable ASCII.
type TextAppender interface {
	AppendText(to []byte, era Era) []byte
}

// TextOnly is implemented by records that only text output shows, such as
// headings and progress lines of the classic layouts.
type TextOnly interface{ TextOnly() }

// OwnLine is implemented by text-only records that kd would not print; they
// vanish under .kdonly 1.
type OwnLine interface{ OwnLine() }

// Sink takes the records of a command.
type Sink interface{ Emit(Record) error }

// Text is a piece of classic layout without a record of its own.
type Text string

// Textf formats a piece of classic layout. Strings from a dump are made safe.
func Textf(format string, args ...any) Text { return Text(Sprintf(format, args...)) }

// Type names the record.
func (Text) Type() string { return "text" }

// TextOnly marks it.
func (Text) TextOnly() {}

// WriteText writes it as it stands, with control bytes other than newline and
// tab escaped.
func (t Text) WriteText(p *Printer) { p.raw(Layout(string(t))) }

// Note is a line of our own after kd's answer.
type Note string

// Notef formats a line of our own. Strings from a dump are made safe.
func Notef(format string, args ...any) Note { return Note(Sprintf(format, args...)) }

// Type names the record.
func (Note) Type() string { return "note" }

// MarshalJSON gives the note as an object with its text.
func (n Note) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Text string `json:"text"`
	}{string(n)})
}

// OwnLine marks it.
func (Note) OwnLine() {}

// WriteText writes the note on lines of its own.
func (n Note) WriteText(p *Printer) { p.Own("%s\n", Text(n)) }

// Addr is a 64-bit address or mask; in JSON a string "0x...".
type Addr uint64

// MarshalJSON gives "0x1f"; zero is "0x0".
func (a Addr) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `"%#x"`, uint64(a)), nil }

// String gives 16 hex digits, as kd prints a pointer.
func (a Addr) String() string { return fmt.Sprintf("%016x", uint64(a)) }

// Tick gives the address with kd's back-tick in the middle.
func (a Addr) Tick() string { return fmt.Sprintf("%08x`%08x", uint64(a)>>32, uint64(a)&0xffffffff) }

// Missing says, per field of a record, why its value is null.
type Missing map[string]string

// Set notes why a field is missing; a nil error notes nothing. The first
// reason stays.
func (m *Missing) Set(field string, err error) {
	if err == nil {
		return
	}
	if *m == nil {
		*m = Missing{}
	}
	if _, ok := (*m)[field]; !ok {
		(*m)[field] = err.Error()
	}
}

// End closes the answer of one command.
type End struct {
	OK        bool    `json:"ok"`
	Skipped   int     `json:"skipped"`
	ElapsedMS float64 `json:"elapsed_ms"`
	Error     string  `json:"error,omitempty"`
}

// Type names the record.
func (End) Type() string { return "end" }

// WriteText writes nothing: text shows errors as the prompt does.
func (End) WriteText(*Printer) {}

// Skipper is implemented by summary records that know how many items the walk
// behind them could not read; the sum stands in the end record.
type Skipper interface{ SkippedItems() int }

// JSON writes records as one object per line.
type JSON struct {
	mu   sync.Mutex
	w    io.Writer
	line []byte // of an Appender, used again

	answers []answer // being written; a script's own below those of its commands
}

// answer is one command's, from Begin to End.
type answer struct {
	command, args string
	skipped       int
	start         time.Time

	head map[string][]byte // the start of a line, by type of record
}

// headOf gives the start of a line: command, arguments and type of the record.
func (a *answer) headOf(record string) ([]byte, error) {
	if h, ok := a.head[record]; ok {
		return h, nil
	}
	h, err := marshalHead(a.command, a.args, record)
	if err != nil {
		return nil, err
	}
	if a.head == nil {
		a.head = map[string][]byte{}
	}
	a.head[record] = h
	return h, nil
}

// NewJSON gives a sink that writes to w.
func NewJSON(w io.Writer) *JSON { return &JSON{w: w} }

// Begin starts the answer of a command. A command that runs others has theirs
// inside its own.
func (j *JSON) Begin(command, args string) {
	j.answers = append(j.answers, answer{command: command, args: args, start: time.Now()})
}

// top gives the answer that records belong to.
func (j *JSON) top() *answer {
	if len(j.answers) == 0 {
		return &answer{start: time.Now()}
	}
	return &j.answers[len(j.answers)-1]
}

// Drop ends the answer of a command without a record.
func (j *JSON) Drop() { j.answers = j.answers[:max(0, len(j.answers)-1)] }

// Emit writes one record; text-only ones are left out.
func (j *JSON) Emit(r Record) error {
	if _, ok := r.(TextOnly); ok {
		return nil
	}
	top := j.top()
	if s, ok := r.(Skipper); ok {
		top.skipped += s.SkippedItems()
	}
	head, err := top.headOf(r.Type())
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if a, ok := r.(Appender); ok {
		j.line = append(append(j.line[:0], head...), ',')
		j.line = append(a.AppendFields(j.line), "}\n"...)
		_, err = j.w.Write(j.line)
		return err
	}
	line, err := appendRecord(slices.Clip(head), r)
	if err != nil {
		return err
	}
	_, err = j.w.Write(line)
	return err
}

// End writes the end record of the command.
func (j *JSON) End(failure error) error {
	top := j.top()
	e := End{OK: failure == nil, Skipped: top.skipped}
	e.ElapsedMS = float64(time.Since(top.start).Microseconds()) / 1000
	if failure != nil {
		e.Error = failure.Error()
	}
	defer j.Drop()
	return j.Emit(e)
}

// Marshal gives the JSON line of a record: the command, its arguments, the
// record's type, then the record's own fields. Control characters, DEL and C1
// are escaped.
func Marshal(command, args string, r Record) ([]byte, error) {
	head, err := marshalHead(command, args, r.Type())
	if err != nil {
		return nil, err
	}
	return appendRecord(head, r)
}

// marshalHead gives a line up to the record's own fields, without a comma.
func marshalHead(command, args, record string) ([]byte, error) {
	head, err := encode(struct {
		Command string `json:"command"`
		Args    string `json:"args"`
		Record  string `json:"record"`
	}{command, args, record})
	if err != nil {
		return nil, err
	}
	return head[:len(head)-1], nil
}

// appendRecord appends a record's own fields and ends the line.
func appendRecord(line []byte, r Record) ([]byte, error) {
	body, err := encode(r)
	if err != nil {
		return nil, err
	}
	if len(body) < 2 || body[0] != '{' {
		return nil, fmt.Errorf("record %s is no JSON object", r.Type())
	}
	if len(body) > 2 {
		line = append(line, ',')
	}
	return append(append(line, body[1:]...), '\n'), nil
}

// JSONObject encodes a value as the JSON of records is written, for a record
// with a MarshalJSON of its own.
func JSONObject(v any) ([]byte, error) { return encode(v) }

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return escapeJSON(bytes.TrimRight(b.Bytes(), "\n")), nil
}

// escapeJSON spells DEL and the C1 controls as \u00XX; outside strings neither
// can occur. encoding/json does the C0 controls itself.
func escapeJSON(b []byte) []byte {
	first := -1
	for i, c := range b {
		// In UTF-8 the C1 controls are 0xc2 and a byte from 0x80 to 0x9f.
		if c == 0x7f || c == 0xc2 && i+1 < len(b) && b[i+1] < 0xa0 {
			first = i
			break
		}
	}
	if first < 0 {
		return b
	}
	out := append(make([]byte, 0, len(b)+32), b[:first]...)
	for _, r := range string(b[first:]) {
		if r >= 0x7f && r <= 0x9f {
			out = fmt.Appendf(out, `\u%04x`, r)
			continue
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}

// Recorder keeps records, for tests.
type Recorder struct{ Records []Record }

// Emit keeps the record.
func (r *Recorder) Emit(rec Record) error {
	r.Records = append(r.Records, rec)
	return nil
}
