package main

import "maps"

// handMade are types that some or all tables lack, spelled as in the layout
// files, with what is known about where they come from.
type handMade struct {
	families []string // empty: every family
	lines    []string
	evidence string
}

var (
	sevens     = []string{lateFamily, earlyFamily}
	untilEight = []string{lateFamily, earlyFamily, "9600"}
)

var handTypes = map[string]handMade{
	"_KSWITCH_FRAME": {
		lines: []string{
			"struct 0x40",
			"0x0 P1Home u8", "0x8 P2Home u8", "0x10 P3Home u8",
			"0x18 P4Home u8", "0x20 P5Home u8",
			"0x28 ApcBypass u1", "0x30 Rbp u8", "0x38 Return u8",
		},
		evidence: "in no public type table; the size follows from posted !thread output: " +
			"the first Child-SP is Current + 0x40 (Windows 7 to 8.1 samples)",
	},
	"_UNLOADED_DRIVER": {
		lines: []string{
			"struct 0x28",
			"0x0 Name _UNICODE_STRING", "0x10 StartAddress *void", "0x18 EndAddress *void", "0x20 CurrentTime _LARGE_INTEGER",
		},
		evidence: "in no public type table; entry of MmUnloadedDrivers as volatility's plugins read it",
	},
	"_MACHINE_FRAME": {
		families: []string{lateFamily, earlyFamily, "9600", "14393"},
		lines: []string{
			"struct 0x28",
			"0x0 Rip u8", "0x8 SegCs u2", "0xa Fill1 [3]u2",
			"0x10 EFlags u4", "0x14 Fill2 u4", "0x18 Rsp u8",
			"0x20 SegSs u2", "0x22 Fill3 [3]u2",
		},
		evidence: "not in this table; as in the 17763 table: what the processor pushes does not change",
	},
	"_KLDR_DATA_TABLE_ENTRY": {
		families: untilEight,
		lines: []string{
			"struct 0x80",
			"0x0 InLoadOrderLinks _LIST_ENTRY", "0x10 ExceptionTable *void", "0x18 ExceptionTableSize u4",
			"0x30 DllBase *void", "0x38 EntryPoint *void", "0x40 SizeOfImage u4",
			"0x48 FullDllName _UNICODE_STRING", "0x58 BaseDllName _UNICODE_STRING",
			"0x68 Flags u4", "0x6c LoadCount u2", "0x78 CheckSum u4",
		},
		evidence: "not in this table; the part up to CheckSum agrees with the 14393 table and with " +
			"_LDR_DATA_TABLE_ENTRY, which volatility reads loaded drivers with; the size is a lower bound",
	},
}

var handEnums = map[string]handMade{
	"_KTHREAD_STATE": {
		families: sevens,
		lines: []string{
			"4", "0 Initialized", "1 Ready", "2 Running", "3 Standby", "4 Terminated", "5 Waiting", "6 Transition",
			"7 DeferredReady", "8 GateWait",
		},
		evidence: "not in this table; values of KTHREAD_STATE in phnt's ntkeapi.h",
	},
}

// addByHand completes a layout; what a table has is never replaced.
func (l *layout) addByHand() {
	add := func(into map[string][]string, from map[string]handMade) {
		for name, hand := range from {
			if into[name] != nil || hand.families != nil && !contains(hand.families, l.Family) {
				continue
			}
			into[name] = hand.lines
			l.ByHand[name] = hand.evidence
		}
	}
	add(l.flat.types, handTypes)
	add(l.flat.enums, handEnums)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// complete takes types that an older table lacks from a newer one of the same
// product, with what they hold by value, unless the older one has that.
func (l *layout) complete(newer *flat, names []string, evidence string) {
	have := maps.Clone(l.flat.types)
	for _, name := range names {
		if lines, ok := newer.enums[name]; ok && l.flat.enums[name] == nil {
			l.flat.enums[name] = lines
			l.ByHand[name] = evidence
		}
		if lines, ok := newer.types[name]; ok && have[name] == nil {
			l.flat.types[name] = lines
			l.ByHand[name] = evidence
		}
	}
}
