// Package sympath finds the symbol tables and image files of a target: in
// folders and symbol stores, as kd's symbol path and image path name them.
//
// It reads no target and prints nothing; what it could not use it notes.
package sympath
