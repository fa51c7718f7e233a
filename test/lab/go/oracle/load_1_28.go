//go:build apiserver_1_27 || apiserver_1_28

package main

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/storage/value"
)

func load(ctx context.Context, file string, reload bool) (func(schema.GroupResource) value.Transformer, error) {
	config, err := encryptionconfig.LoadEncryptionConfig(ctx, file, reload)
	if err != nil {
		return nil, err
	}
	return encryptionconfig.StaticTransformers(config.Transformers).TransformerForResource, nil
}
