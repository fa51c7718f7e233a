// Only marks the folder: each Kubernetes version has a module file of its own (VERSION.mod, see ../../oracles.sh).
module tsrke.test/lab/oracle

go 1.24.0
