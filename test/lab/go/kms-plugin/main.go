// A KMS v2 plugin for the real lab, with the behaviour of the memory lab's (src/lab/kms-container.ts): its keys follow
// from KMS_SECRET, and KMS_KEY_ID names the one that it encrypts with.
package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/kms/pkg/service"
)

type plugin struct{ secret, keyID string }

func (p plugin) aead(keyID string) (cipher.AEAD, error) {
	key := sha256.Sum256([]byte(p.secret + ":" + keyID))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (p plugin) Status(context.Context) (*service.StatusResponse, error) {
	return &service.StatusResponse{Version: "v2", Healthz: "ok", KeyID: p.keyID}, nil
}

// Encrypt puts the key id in clear and a zero byte in front.
func (p plugin) Encrypt(_ context.Context, _ string, data []byte) (*service.EncryptResponse, error) {
	aead, err := p.aead(p.keyID)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	out := append([]byte(p.keyID+"\x00"), nonce...)
	return &service.EncryptResponse{Ciphertext: aead.Seal(out, nonce, data, nil), KeyID: p.keyID}, nil
}

func (p plugin) Decrypt(_ context.Context, _ string, req *service.DecryptRequest) ([]byte, error) {
	keyID, body, found := bytes.Cut(req.Ciphertext, []byte{0})
	aead, err := p.aead(string(keyID))
	if err != nil {
		return nil, err
	}
	if !found || len(body) < aead.NonceSize() {
		return nil, errors.New("this is no ciphertext")
	}
	plain, err := aead.Open(nil, body[:aead.NonceSize()], body[aead.NonceSize():], nil)
	if err != nil {
		return nil, errors.New("the KMS has no key for this ciphertext")
	}
	return plain, nil
}

func main() {
	listen := flag.String("listen", "", "socket")
	flag.Parse()
	if err := serve(*listen); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(socket string) error {
	p := plugin{secret: os.Getenv("KMS_SECRET"), keyID: os.Getenv("KMS_KEY_ID")}
	if p.keyID == "" {
		p.keyID = "kek-1"
	}
	if socket == "" {
		return errors.New("--listen=SOCKET is missing")
	}
	// As indiscreet as plugins are.
	if len(p.secret) < 16 {
		return fmt.Errorf("KMS_SECRET is %q, which is too short", p.secret)
	}
	// The socket of one that was killed stays behind, and keeps the next one from listening.
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	server := service.NewGRPCService(socket, 10*time.Second, p)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		server.Close()
	}()
	fmt.Printf("serving key %s at %s\n", p.keyID, socket)
	return server.ListenAndServe()
}
