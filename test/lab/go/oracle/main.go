// kube-apiserver's own judgement of a provider file, and its own bytes:
//
//	oracle check FILE                          exit 0, or 1 with the server's words on stderr
//	oracle encrypt FILE RESOURCE KEY <plain    what the server would store under this etcd key
//	oracle decrypt FILE RESOURCE KEY <stored   what it would read; `stale` on stderr: it would write it anew
//	oracle serve                               the same, one JSON line for each JSON line:
//	    {"do":"check","text":"…"}  {"do":"encrypt","text":"…","resource":"secrets","key":"/registry/…","value":"base64"}
//	    {"ok":true,"value":"base64","stale":false} or {"ok":false,"error":"…"}
//
// RESOURCE is `secrets` or `deployments.apps`. KMS plugins must answer on their sockets.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/storage/value"
)

type question struct {
	Do, Text, Resource, Key string
	Value                   []byte
}

type answer struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	Value []byte `json:"value,omitempty"`
	Stale bool   `json:"stale"`
}

func main() {
	args := os.Args[1:]
	switch {
	case len(args) == 1 && args[0] == "serve":
		serve()
	case len(args) == 2 && args[0] == "check":
		once(args[1], question{Do: "check"})
	case len(args) == 4 && (args[0] == "encrypt" || args[0] == "decrypt"):
		value, err := io.ReadAll(os.Stdin)
		if err != nil {
			fail(err.Error())
		}
		once(args[1], question{Do: args[0], Resource: args[2], Key: args[3], Value: value})
	default:
		fmt.Fprintln(os.Stderr, "usage: oracle check FILE | encrypt|decrypt FILE RESOURCE KEY | serve")
		os.Exit(3)
	}
}

func fail(words string) {
	fmt.Fprintln(os.Stderr, words)
	os.Exit(1)
}

func once(file string, q question) {
	a := judge(file, q)
	if !a.OK {
		fail(a.Error)
	}
	if a.Stale {
		fmt.Fprintln(os.Stderr, "stale")
	}
	os.Stdout.Write(a.Value)
}

func serve() {
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	out := json.NewEncoder(os.Stdout)
	for {
		var q question
		if err := in.Decode(&q); err == io.EOF {
			return
		} else if err != nil {
			fail(err.Error())
		}
		file, err := os.CreateTemp("", "oracle-*.yaml")
		if err != nil {
			fail(err.Error())
		}
		file.WriteString(q.Text)
		file.Close()
		a := judge(file.Name(), q)
		os.Remove(file.Name())
		if err := out.Encode(a); err != nil {
			fail(err.Error())
		}
	}
}

func judge(file string, q question) answer {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	config, err := encryptionconfig.LoadEncryptionConfig(ctx, file, false, "oracle")
	if err != nil {
		return answer{Error: err.Error()}
	}
	transformer := encryptionconfig.StaticTransformers(config.Transformers).TransformerForResource(schema.ParseGroupResource(q.Resource))
	name := value.DefaultContext(q.Key)
	switch q.Do {
	case "check":
		return answer{OK: true}
	case "encrypt":
		stored, err := transformer.TransformToStorage(ctx, q.Value, name)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{OK: true, Value: stored}
	case "decrypt":
		plain, stale, err := transformer.TransformFromStorage(ctx, q.Value, name)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{OK: true, Value: plain, Stale: stale}
	}
	return answer{Error: fmt.Sprintf("unknown question %q", q.Do)}
}
