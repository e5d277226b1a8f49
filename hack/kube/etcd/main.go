// Command etcd is upstream's etcd, built from Go modules: the tests run it behind their
// kube-apiserver.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
