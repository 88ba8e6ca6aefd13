package sharding_test

import (
	"encoding/hex"
	"fmt"

	"github.com/status-im/shoal/sharding"
)

// A shard is one gossipsub topic.
func Example() {
	shard := sharding.Shard{Cluster: sharding.StatusCluster, Index: 128}
	fmt.Println(shard, shard.PubsubTopic())

	// As a person writes it on a command line.
	shard, err := sharding.ParseShard("16/64")
	fmt.Println(shard, err)

	_, err = sharding.ParseShard("16/1024")
	fmt.Println(err)
	// Output:
	// 16/128 /waku/2/rs/16/128
	// 16/64 <nil>
	// sharding: not a shard: "16/1024": the shard must be a number from 0 to 1023 without leading zeros
}

func ExampleParseContentTopic() {
	topic, err := sharding.ParseContentTopic("/waku/1/0x9c22ff5f/rfc26")
	fmt.Println(topic.Application, topic.Name, err)

	_, err = sharding.ParseContentTopic("waku/1/0x9c22ff5f/rfc26")
	fmt.Println(err)
	// Output:
	// waku 0x9c22ff5f <nil>
	// sharding: not a content topic: "waku/1/0x9c22ff5f/rfc26": must begin with a slash
}

// In a network of eight shards that derives them, a content topic is enough.
func ExampleAutoshard() {
	shard, err := sharding.Autoshard("/toychat/2/huilong/proto", 1, 8)
	fmt.Println(shard, err)
	// Output: 1/3 <nil>
}

// A node record carries the shards of its node; which of two keys it needs
// depends on how many there are.
func ExampleSet_WriteRecord() {
	record := map[string][]byte{}
	set, err := sharding.NewSet(16, 13, 14, 45)
	if err != nil {
		fmt.Println(err)
		return
	}
	set.WriteRecord(
		func(key string, value []byte) { record[key] = value },
		func(key string) { delete(record, key) },
	)
	fmt.Printf("rs %x\n", record["rs"])

	got, err := sharding.ReadRecord(func(key string) ([]byte, bool) {
		value, ok := record[key]
		return value, ok
	})
	fmt.Println(got, err, got.Contains(sharding.Shard{Cluster: 16, Index: 14}))
	// Output:
	// rs 001003000d000e002d
	// 16/{13, 14, 45} <nil> true
}

func ExampleUse() {
	for _, index := range []uint16{sharding.DefaultShard, 300, sharding.StatusCCControlShard} {
		fmt.Println(index, sharding.Use(index))
	}
	// Output:
	// 32 large community
	// 300 community
	// 896 control and media
}

// Where somebody's messages are found, from the public key alone.
func ExampleDeployedPartition() {
	key, _ := hex.DecodeString("03cab365fcbb92f82b9c47ceaa27d654268606dea9cd658e369abf5c3fc59d0fa2")
	p, err := sharding.DeployedPartition(key)
	fmt.Println(p.Name, p.ContentTopic, p.Shard, err)

	p, err = sharding.PlannedPartition(key)
	fmt.Println(p.Name, p.ContentTopic, p.Shard, err)
	// Output:
	// contact-discovery-4490 /waku/1/0xe1240bce/rfc26 16/32 <nil>
	// contact-discovery-4002 /waku/1/0x590b46ca/rfc26 16/802 <nil>
}

func ExampleStatusContentTopic() {
	fmt.Println(sharding.StatusContentTopic("my-community-general"))
	// Output: /waku/1/0x4e0e0dfe/rfc26
}
