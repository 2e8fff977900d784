package stack

// The commands that set registers, as Scope.Set names them.
const (
	setThread  = ".thread"
	setContext = ".cxr"
	setTrap    = ".trap"
	setFrame   = ".frame"
)
