module coder-pilot.local/toolchain/dockerd

go 1.26.5

// What it requires itself is in its own vendor.mod, the go.mod of the copy that is compiled.
require github.com/docker/docker v28.5.2+incompatible
