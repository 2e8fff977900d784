// Package pdb reads program databases: the files in which Microsoft's and
// LLVM's linkers keep the types, names and line numbers of an image.
//
// [Open] costs the directory and a few headers. Everything else is read when it
// is first asked for, in pieces, so that a database of 100 MB needs a few
// megabytes of memory. A [File] is safe for concurrent use, and nothing it says
// is trusted: every offset, count and index is checked before it is used, walks
// from record to record are limited, and a damaged record costs that record
// only.
//
// A File is a [types.Store], [types.Lister], [types.Symbols] and
// [types.TypedSymbols] for gokd; [File.Publics], [File.Functions],
// [File.Globals], [File.Types] and [File.Lines] give what the database holds,
// in its own order and spelling.
//
// # Formats
//
// Read is the multi-stream file ("MSF") 7.0 that Visual C++ 7 and later and lld
// write, with blocks of any power of two from 0x200 bytes. Program database
// 2.00 of Visual C++ 6 and earlier is recognised and refused.
//
// The facts about the format come from the public documentation of LLVM ("The
// PDB File Format", llvm.org/docs/PDB), from the headers of LLVM's
// DebugInfo/CodeView and DebugInfo/MSF, and from the tables of the public
// project volatility3 (symbols/windows/pdb.json).
//
// # What types look like
//
// Base types have the names that volatility3's tables give them: "char",
// "unsigned char", "wchar", "short", "unsigned short", "int", "unsigned int",
// "long", "unsigned long", "long long", "unsigned long long", "bool", "float",
// "double", "HRESULT", "void". "const" and "volatile" are dropped. A type
// without a name is called "__unnamed_" and its type index in hex digits. The
// members of base classes stand among those of the class, at their place in it;
// of virtual bases the place is not known, and their members are left out. A
// table of virtual functions is the member "__VFN_table".
//
// A function has [types.KindFunction], as name its parameters as a debugger
// writes them, "(struct _IRP *, unsigned long)", as Elem what it returns, and
// its parameters in Fields, without names and all at offset 0.
package pdb
