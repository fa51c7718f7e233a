package main

import (
	"errors"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const (
	listenAt       = "127.0.0.1:6443"
	connectTimeout = 2 * time.Second
)

// balance is what RKE's nginx does on a node without an apiserver: connections to this host's port 6443 go to
// the hosts of CP_HOSTS in turn, past those that take none.
func balance() error {
	hosts := strings.FieldsFunc(os.Getenv("CP_HOSTS"), func(r rune) bool { return r == ',' })
	if len(hosts) == 0 {
		return errors.New("CP_HOSTS names no host")
	}
	listener, err := net.Listen("tcp", listenAt)
	if err != nil {
		return err
	}
	log.Printf("%s leads to port 6443 of %s", listenAt, strings.Join(hosts, ", "))
	var turn atomic.Uint64
	for {
		client, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer client.Close()
			server := connect(hosts, turn.Add(1))
			if server == nil {
				return
			}
			defer server.Close()
			pipe(client.(*net.TCPConn), server)
		}()
	}
}

func connect(hosts []string, turn uint64) *net.TCPConn {
	for i := range hosts {
		host := hosts[(turn+uint64(i))%uint64(len(hosts))]
		server, err := net.DialTimeout("tcp", net.JoinHostPort(host, "6443"), connectTimeout)
		if err == nil {
			return server.(*net.TCPConn)
		}
		log.Print(err)
	}
	return nil
}

// pipe ends when both sides have said all; the end of one is passed on.
func pipe(a, b *net.TCPConn) {
	done := make(chan struct{})
	go func() {
		io.Copy(a, b)
		a.CloseWrite()
		close(done)
	}()
	io.Copy(b, a)
	b.CloseWrite()
	<-done
}
