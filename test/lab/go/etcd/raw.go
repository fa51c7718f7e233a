package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// raw serves `etcdraw prefixes|get|put|del KEY`. Endpoints and certificates come from etcdctl's own
// environment variables. Values travel over stdin and stdout, byte for byte.
func raw(args []string) {
	if err := run(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: etcdraw prefixes|get|put|del KEY")
	}
	key := args[1]
	tls, err := transport.TLSInfo{
		CertFile:      os.Getenv("ETCDCTL_CERT"),
		KeyFile:       os.Getenv("ETCDCTL_KEY"),
		TrustedCAFile: os.Getenv("ETCDCTL_CACERT"),
	}.ClientConfig()
	if err != nil {
		return err
	}
	etcd, err := clientv3.New(clientv3.Config{
		Endpoints:          strings.Split(os.Getenv("ETCDCTL_ENDPOINTS"), ","),
		DialTimeout:        5 * time.Second,
		TLS:                tls,
		MaxCallRecvMsgSize: 1 << 30,
		MaxCallSendMsgSize: 1 << 30,
	})
	if err != nil {
		return err
	}
	defer etcd.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()

	switch args[0] {
	case "prefixes":
		return prefixes(ctx, etcd, key)
	case "get":
		answer, err := etcd.Get(ctx, key)
		if err != nil {
			return err
		}
		if len(answer.Kvs) == 0 {
			os.Exit(4)
		}
		_, err = os.Stdout.Write(answer.Kvs[0].Value)
		return err
	case "put":
		value, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		_, err = etcd.Put(ctx, key, string(value))
		return err
	case "del":
		_, err = etcd.Delete(ctx, key)
		return err
	}
	return fmt.Errorf("unknown command %q", args[0])
}

// prefixes prints one JSON line for each key below root, all of one revision: the key, and what
// kube-apiserver wrote in front of the value ("" where it is plain).
func prefixes(ctx context.Context, etcd *clientv3.Client, root string) error {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	end := clientv3.GetPrefixRangeEnd(root)
	var revision int64
	for from := root; ; {
		answer, err := etcd.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(1000), clientv3.WithRev(revision))
		if err != nil {
			return err
		}
		if revision == 0 {
			revision = answer.Header.Revision
		}
		for _, kv := range answer.Kvs {
			if err := lines.Encode([]string{string(kv.Key), prefix(kv.Value)}); err != nil {
				return err
			}
		}
		if !answer.More {
			return nil
		}
		from = string(answer.Kvs[len(answer.Kvs)-1].Key) + "\x00"
	}
}

// prefix is `k8s:enc:<provider>:<version>:<name>:`, the five parts that kube-apiserver's transformers match.
func prefix(value []byte) string {
	if !bytes.HasPrefix(value, []byte("k8s:enc:")) {
		return ""
	}
	end := 0
	for range 5 {
		colon := bytes.IndexByte(value[end:], ':')
		if colon < 0 {
			return string(value[:min(len(value), 64)])
		}
		end += colon + 1
	}
	return string(value[:end])
}
