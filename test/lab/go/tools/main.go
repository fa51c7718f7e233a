// Small programs for the real lab's images, as one binary: each is what its symlink is called.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

var programs = map[string]func() error{
	"nginx-proxy": balance,
	"flannel":     flannel,
	// Stands in for programs that nobody needs to do their work.
	"idle": idle,
	// The same for pods: a sandbox's first process.
	"pause":                           idle,
	"cluster-proportional-autoscaler": idle,
}

func main() {
	name := filepath.Base(os.Args[0])
	program, ok := programs[name]
	if !ok {
		program = func() error { return fmt.Errorf("no such program") }
	}
	if err := program(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func idle() error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)
	<-ended
	return nil
}
