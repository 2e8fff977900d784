// Package repl is the ways a session is driven: by flags, a prompt, a script or
// a pipe. It opens dumps and hands them to the model, runs the commands, and
// knows terminals. It computes nothing about a dump.
package repl
