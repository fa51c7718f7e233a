// etcd, etcdctl and a few raw reads and writes for tests, in one binary told apart by the name it is
// called by. For the real lab only.
package main

import (
	"os"
	"path/filepath"

	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	switch filepath.Base(os.Args[0]) {
	case "etcdctl":
		ctlv3.MustStart()
	case "etcdraw":
		raw(os.Args[1:])
	default:
		etcdmain.Main(os.Args)
	}
}
