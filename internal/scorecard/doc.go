// Package scorecard holds no code but tests: what a shard guarded by a
// community key must survive, with package relay and package dosguard joined as
// package waku joins them.
//
// The tests here count: what was forwarded, what was delivered, when a peer was
// cut. Each defence is also switched off once, and the attack must then succeed.
// What costs CPU, memory and time is measured by the soak tests (make soak),
// against a run without the attack.
package scorecard
