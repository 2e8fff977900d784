// Package sympath finds the symbol files and image files of a target: in
// folders, symbol stores and symbol servers, as kd's symbol path and image path
// name them.
//
// A path has elements, separated by semicolons, that are asked from left to
// right: folders, "srv*STORE*...*URL" (also "symsrv*symsrv.dll*..."), "srv*"
// alone for Microsoft's public server, and "cache*FOLDER", which keeps what
// elements to its right have. A store keeps NAME/IDENTITY/NAME, or with an
// index2.txt in its root a folder of the name's first two letters above that;
// files may be packed ("ntkrnlmp.pd_", a cabinet) or be elsewhere (file.ptr).
// Volatility's ISF tables are found too. All of this is public in Microsoft's
// documentation of the symbol path, SymSrv and SymStore, and in volatility3.
//
// A file is used only where its own GUID and age, or time stamp and size, are
// those of the image: names prove nothing. Nothing is ever fetched unless a
// path names a server.
//
// The package reads no target, no environment and no clock of others, and
// prints nothing; what it could not use it notes, and what it does it tells
// through Options.
package sympath
