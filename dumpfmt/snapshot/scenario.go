package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The scenario file. Every field may be left out; addresses that are not given
// are assigned. README.md in testdata/snapshots describes the fields for the
// people who write such files.
type (
	scenario struct {
		Name       text            `yaml:"name"`
		Build      number          `yaml:"build"`
		Processors number          `yaml:"processors"`
		Memory     number          `yaml:"memory"` // bytes that the machine has, not the dump
		Dump       text            `yaml:"dump"`   // full, bitmap, kernel
		Time       text            `yaml:"time"`   // RFC 3339
		Clock      clockSpec       `yaml:"clock"`
		Crash      crashSpec       `yaml:"crash"`
		DeviceMap  number          `yaml:"device_map"`
		Modules    []moduleSpec    `yaml:"modules"`
		Stacks     map[string]rows `yaml:"stacks"` // pieces of stacks that threads name
		Objects    []objectSpec    `yaml:"objects"`
		Processes  []processSpec   `yaml:"processes"`
		Resources  []resourceSpec  `yaml:"resources"`
		Pool       poolSpec        `yaml:"pool"`
	}

	clockSpec struct {
		Ticks  number `yaml:"ticks"`  // since boot
		Length number `yaml:"length"` // of a tick, 100 ns units
	}

	crashSpec struct {
		Code      number   `yaml:"code"`
		Args      []number `yaml:"args"`
		Processor number   `yaml:"processor"`
		Stack     rows     `yaml:"stack"`
		Comment   text     `yaml:"comment"`
	}

	moduleSpec struct {
		Image     text              `yaml:"image"`
		Base      number            `yaml:"base"`
		Size      number            `yaml:"size"`
		Functions map[string]number `yaml:"functions"` // name: address, or 0 for any
		Tags      map[string]text   `yaml:"tags"`      // pool tag: function whose code holds it
	}

	objectSpec struct {
		Name     text   `yaml:"name"`
		Kind     text   `yaml:"kind"`
		Address  number `yaml:"address"`
		Signaled bool   `yaml:"signaled"`
		Limit    number `yaml:"limit"` // of a semaphore
		Owner    text   `yaml:"owner"` // of a mutant
	}

	processSpec struct {
		Image     text         `yaml:"image"`
		Name      text         `yaml:"name"` // to refer to it; the image where missing
		Address   number       `yaml:"address"`
		PID       number       `yaml:"pid"`
		Parent    text         `yaml:"parent"`
		Session   number       `yaml:"session"`
		Handles   number       `yaml:"handles"`
		Priority  number       `yaml:"priority"`
		DeviceMap number       `yaml:"device_map"`
		Threads   []threadSpec `yaml:"threads"`
	}

	threadSpec struct {
		Name            text      `yaml:"name"`
		Count           number    `yaml:"count"`
		Address         number    `yaml:"address"`
		TID             number    `yaml:"tid"`
		State           text      `yaml:"state"`
		Processor       number    `yaml:"processor"`
		Wait            waitSpec  `yaml:"wait"`
		Priority        number    `yaml:"priority"`
		BasePriority    number    `yaml:"base_priority"`
		UnusualBoost    number    `yaml:"unusual_boost"`
		ForegroundBoost number    `yaml:"foreground_boost"`
		IoPriority      number    `yaml:"io_priority"`
		PagePriority    number    `yaml:"page_priority"`
		Switches        number    `yaml:"context_switches"`
		KernelTicks     number    `yaml:"kernel_ticks"`
		UserTicks       number    `yaml:"user_ticks"`
		Start           text      `yaml:"start"` // module!function
		Win32Thread     number    `yaml:"win32_thread"`
		Attached        text      `yaml:"attached"` // a process
		IRPs            []irpSpec `yaml:"irps"`
		Stack           rows      `yaml:"stack"`
		StackBase       number    `yaml:"stack_base"`
		StackLimit      number    `yaml:"stack_limit"`
		Outer           outerSpec `yaml:"outer_stack"` // that this one was switched from
	}

	outerSpec struct {
		Base  number `yaml:"base"`
		Limit number `yaml:"limit"`
	}

	waitSpec struct {
		For       []text `yaml:"for"` // kinds, or names of objects, threads and processes
		Reason    text   `yaml:"reason"`
		Mode      text   `yaml:"mode"`
		Alertable bool   `yaml:"alertable"`
		All       bool   `yaml:"all"`
		Timeout   number `yaml:"timeout"` // ticks from now until the wait gives up
		Ticks     number `yaml:"ticks"`   // since the wait began
	}

	irpSpec struct {
		Address   number `yaml:"address"`
		Locations number `yaml:"locations"`
		Flags     number `yaml:"flags"`
		Major     number `yaml:"major"`
		Driver    text   `yaml:"driver"` // module that has it
		File      text   `yaml:"file"`
	}

	resourceSpec struct {
		Name             text        `yaml:"name"` // nt!Name makes it a variable of the kernel
		Address          number      `yaml:"address"`
		Count            number      `yaml:"count"`
		Tag              text        `yaml:"tag"`
		Contention       number      `yaml:"contention"`
		Exclusive        *ownerSpec  `yaml:"exclusive_owner"`
		Shared           []ownerSpec `yaml:"shared_owners"`
		SharedWaiters    []text      `yaml:"shared_waiters"`
		ExclusiveWaiters []text      `yaml:"exclusive_waiters"`
		Semaphore        number      `yaml:"semaphore"`
		Event            number      `yaml:"event"`
	}

	ownerSpec struct {
		Thread  text   `yaml:"thread"`
		Pointer number `yaml:"pointer"` // as ExSetResourceOwnerPointer left it
		Count   number `yaml:"count"`
		Tagged  bool   `yaml:"tagged"` // the thread's address with the low bits set
	}

	poolSpec struct {
		NonPagedStart number    `yaml:"nonpaged_start"`
		NonPagedSize  number    `yaml:"nonpaged_size"`
		Tags          []tagSpec `yaml:"tags"`
	}

	tagSpec struct {
		Tag      text   `yaml:"tag"`
		Pool     text   `yaml:"pool"` // nonpaged, paged
		Count    number `yaml:"count"`
		Size     number `yaml:"size"`
		Captured number `yaml:"captured"` // of them in the dump; all where missing
		Freed    number `yaml:"freed"`    // blocks allocated and freed before
		Fill     text   `yaml:"fill"`     // text that each captured block holds
	}
)

// Limits of a scenario: a small machine that is built at once. A scenario may
// come from anywhere.
const (
	maxScenario   = 1 << 20 // bytes
	maxModules    = 200
	maxProcesses  = 250
	maxThreads    = 2000
	maxResources  = 20000
	maxTags       = 1500
	maxAllocs     = 100000
	maxStackRows  = 200
	maxMemory     = 64 << 30 // bytes of the machine
	maxProcessors = 32
	maxName       = 120
)

// lineError is an error of a scenario with the line that it stands in.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string {
	if e.line == 0 {
		return "scenario: " + e.err.Error()
	}
	return fmt.Sprintf("scenario: line %d: %v", e.line, e.err)
}

func (e *lineError) Unwrap() error { return e.err }

// ErrScenario is the class of every error of Build that a change of the
// scenario mends.
var ErrScenario = errors.New("scenario cannot be built")

// Is puts lineErrors into the class ErrScenario.
func (e *lineError) Is(target error) bool { return target == ErrScenario }

func wrong(line int, format string, args ...any) error {
	return &lineError{line, fmt.Errorf(format, args...)}
}

// parseScenario reads a scenario; unknown fields and second documents are
// errors.
func parseScenario(data []byte) (*scenario, error) {
	if len(data) > maxScenario {
		return nil, wrong(0, "%d bytes, at most %d are read", len(data), maxScenario)
	}
	s := new(scenario)
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(s); err != nil && !errors.Is(err, io.EOF) {
		return nil, yamlError(err)
	}
	var rest yaml.Node
	if err := d.Decode(&rest); err == nil {
		return nil, wrong(rest.Line, "a second document: a scenario is one")
	}
	return s, s.limits()
}

// yamlError turns the decoder's errors, which name Go types, into ours.
func yamlError(err error) error {
	var line *lineError
	if errors.As(err, &line) {
		return line
	}
	var list *yaml.TypeError
	if !errors.As(err, &list) || len(list.Errors) == 0 {
		return &lineError{err: errors.New(strings.TrimPrefix(err.Error(), "yaml: "))}
	}
	first := list.Errors[0]
	if before, _, ok := strings.Cut(first, " not found in type"); ok {
		first = before + " is no part of a scenario"
	}
	return &lineError{err: errors.New(first)}
}

// limits refuses scenarios that would take long or much.
func (s *scenario) limits() error {
	threads, resources, allocs := uint64(0), uint64(0), uint64(0)
	for _, p := range s.Processes {
		for _, t := range p.Threads {
			threads += min(t.Count.or(1), maxThreads+1)
		}
	}
	for _, r := range s.Resources {
		resources += min(r.Count.or(1), maxResources+1)
	}
	for _, t := range s.Pool.Tags {
		allocs += min(max(t.Captured.v, t.Count.or(1)), maxAllocs+1)
	}
	for _, c := range []struct {
		what string
		n    uint64
		max  uint64
	}{
		{"modules", uint64(len(s.Modules)), maxModules},
		{"processes", uint64(len(s.Processes)), maxProcesses},
		{"threads", threads, maxThreads},
		{"objects", uint64(len(s.Objects)), maxThreads},
		{"resources", resources, maxResources},
		{"pool tags", uint64(len(s.Pool.Tags)), maxTags},
		{"pool blocks", allocs, maxAllocs},
		{"processors", s.Processors.or(1), maxProcessors},
		{"bytes of memory", s.Memory.or(1), maxMemory},
	} {
		if c.n > c.max {
			return wrong(0, "%d %s, at most %d are possible", c.n, c.what, c.max)
		}
	}
	return nil
}
