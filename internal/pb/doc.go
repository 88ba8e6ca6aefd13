// Package pb holds the generated code of the request and response protocols.
// It never appears in a public signature: each protocol package has types of
// its own and converts.
//
// Files and protobuf packages carry the prefix shoal, because names in the
// protobuf registry are global to the process and two registrations of one name
// panic: a host program may link another implementation of the same protocols.
//
// To change something, edit the .proto file and run make proto.
package pb
