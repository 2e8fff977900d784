package cmd

import (
	"slices"
	"strings"
)

// elsewhere says, for commands of kd that gokd does not have, what shows the
// same here, or why nothing does. It is asked only for names that no command
// has; names are in lower case.
var elsewhere = []struct{ hint, names string }{
	{"k shows the stack of the current thread, !thread ADDRESS that of another", "!uniqstack !findstack"},
	{"!process 0 7 shows all threads with their stacks", "!stacks"},
	{"~N chooses a processor, !thread shows what runs on it", "!running !ready !pcr !prcb !cpuinfo"},
	{".cxr ADDRESS shows and takes the registers of a saved context", ".ecxr"},
	{".bugcheck shows why the machine stopped, !thread the stack that led there", "!analyze"},
	{"!session lists the sessions and chooses one; !process 0 0 shows which session each process belongs to", "!sprocess"},
	{"s searches virtual memory; !ptov lists which physical page is where", "!search !searchpte"},
	{"lm lists the modules of the kernel; those of user mode are not read", "!dlls"},
	{"dt nt!_PEB @$peb and dt nt!_TEB @$teb show them after .process /p, where the dump has user memory", "!peb !teb"},
	{"vertarget names the machine that the dump is of; there is no other to choose", ".effmach"},
	{".exr -1 shows the exception that the dump was made for, .bugcheck the code", ".lastevent"},
	{"functions' parameters and local variables are not looked for; dt shows the structures that registers and stacks lead to", "dv"},
	{"gokd FILE opens a dump; a session has one", ".opendump .restart"},
	{".printf prints formatted values, .echo a text; .foreach, .for and .while run commands again", ".outmask .pcmd dx .scriptload .scriptrun"},
	{"a dump is a machine that stands still: nothing in it runs, and gokd changes nothing",
		"g gc gh gn gu p pa pc pct pt t ta tb tc tct tt wt bp bu bm ba bl bc bd be sx sxe sxd sxi sxn " +
			"e eb ed ef ep eq ew ea eu eza ezu !eb !ed !eq !ew f fp m .dvalloc .dvfree .crash .reboot .kill .writemem"},
	{"q ends the session", "exit quit .exit .quit"},
	{".help lists the commands, .hh explains one", "help !?"},
	{"Ctrl-L clears the screen", ".cls cls clear"},
}

// instead gives the hint for a command of kd's; empty where there is none.
func instead(name string) string {
	name = strings.ToLower(name)
	for _, e := range elsewhere {
		if slices.Contains(strings.Fields(e.names), name) {
			return e.hint
		}
	}
	return ""
}
