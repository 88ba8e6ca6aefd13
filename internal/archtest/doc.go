// Package archtest holds no code but tests: the rules of the house, kept by
// machine.
//
//   - Who may import whom, as a table over "go list" (house_test.go). A new
//     package enters the table before it enters the tree.
//   - No C: no package of ours uses cgo, and none reaches a C dependency
//     except through internal/discv5.
//   - Every exported name has a comment, and no exported signature speaks of
//     generated or foreign types (source_test.go).
//
// Each rule is also broken on purpose, to see that it would be noticed.
package archtest
