#!/usr/bin/env bash
# Generates the .pb.go files from the .proto files beside this script. Needs
# protoc and protoc-gen-go in PATH: "make proto" brings both.
set -euo pipefail
cd "$(dirname "$0")"
for tool in protoc protoc-gen-go; do
	command -v "$tool" >/dev/null || {
		echo "$tool isn't in PATH: run make proto" >&2
		exit 1
	}
done
protoc --go_out=. --go_opt=paths=source_relative ./*.proto
