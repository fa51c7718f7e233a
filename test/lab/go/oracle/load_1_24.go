//go:build apiserver_1_24 || apiserver_1_25

package main

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
)

func load(_ context.Context, file string, _ bool) (func(schema.GroupResource) value.Transformer, error) {
	overrides, err := encryptionconfig.GetTransformerOverrides(file)
	if err != nil {
		return nil, err
	}
	return func(resource schema.GroupResource) value.Transformer {
		if transformer := overrides[resource]; transformer != nil {
			return transformer
		}
		return identity.NewEncryptCheckTransformer()
	}, nil
}
