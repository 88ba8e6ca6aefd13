package sharding_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/sharding"
)

// hexBytes is a hexadecimal JSON string.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func readVectors[T any](t testing.TB, name string) T {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	var v T
	require.NoError(t, json.Unmarshal(text, &v))
	return v
}

type topicVectors struct {
	ContentTopics []struct {
		Input struct {
			Topic string `json:"content_topic"`
		}
		Expected struct {
			Valid       bool
			Generation  int
			Application string
			Version     string
			Name        string
			Encoding    string
			Error       string
		}
	} `json:"content_topics"`
	PubsubTopics []struct {
		Input struct {
			Topic string `json:"pubsub_topic"`
		}
		Expected struct {
			Valid   bool `json:"valid_static_shard"`
			Cluster uint16
			Shard   uint16
		}
	} `json:"pubsub_topics"`
	ChatNames []struct {
		Input struct {
			Name string `json:"chat_name"`
		}
		Expected struct {
			ContentTopic string   `json:"content_topic"`
			Keccak       hexBytes `json:"keccak256_hex"`
			Topic4       string   `json:"topic4_hex"`
		}
	} `json:"status_chat_names"`
	Partitioned []struct {
		Expected struct {
			CommunityID    string   `json:"community_id"`
			CommunityTopic string   `json:"community_content_topic"`
			ContactName    string   `json:"contact_code_chat_name"`
			ContactTopic   string   `json:"contact_code_content_topic"`
			PersonalName   string   `json:"personal_chat_name"`
			PersonalTopic  string   `json:"personal_content_topic"`
			Name           string   `json:"partition_chat_name"`
			Topic          string   `json:"partition_content_topic"`
			Topic4         string   `json:"partition_topic4_hex"`
			Number         int      `json:"partition_mod_5000"`
			PlannedShard   uint16   `json:"rfc57_shard_768_plus_x_mod_128"`
			PlannedNumber  int      `json:"x_mod_8192"`
			Compressed     hexBytes `json:"public_key_compressed_hex"`
			Uncompressed   hexBytes `json:"public_key_uncompressed_hex"`
		}
	} `json:"status_partitioned"`
}

func readTopics(t testing.TB) topicVectors {
	v := readVectors[topicVectors](t, "content-topics.json")
	require.NotEmpty(t, v.ContentTopics)
	require.NotEmpty(t, v.PubsubTopics)
	require.NotEmpty(t, v.ChatNames)
	require.NotEmpty(t, v.Partitioned)
	return v
}

func TestContentTopicVectors(t *testing.T) {
	// The vectors' words for a refusal, and ours.
	reasons := map[string]string{
		"must start with '/'":             "must begin with a slash",
		"wrong number of parts":           "must have four parts",
		"generation not a decimal number": "must be the generation, a decimal number",
		"generation not supported":        "only generation 0",
		"generation empty":                "the generation is empty",
		"application empty":               "the application is empty",
		"version empty":                   "the version is empty",
		"name empty":                      "the name is empty",
		"encoding empty":                  "the encoding is empty",
	}
	for _, v := range readTopics(t).ContentTopics {
		t.Run(v.Input.Topic, func(t *testing.T) {
			got, err := sharding.ParseContentTopic(v.Input.Topic)
			if !v.Expected.Valid {
				var refused *sharding.TopicError
				require.ErrorAs(t, err, &refused)
				assert.ErrorIs(t, err, sharding.ErrContentTopic)
				require.Contains(t, reasons, v.Expected.Error)
				assert.Contains(t, err.Error(), reasons[v.Expected.Error])
				assert.Zero(t, got)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, sharding.ContentTopic{
				Generation:  v.Expected.Generation,
				Explicit:    strings.HasPrefix(v.Input.Topic, "/0/"),
				Application: v.Expected.Application,
				Version:     v.Expected.Version,
				Name:        v.Expected.Name,
				Encoding:    v.Expected.Encoding,
			}, got)
			assert.Equal(t, v.Input.Topic, got.String())
		})
	}
}

func TestPubsubTopicVectors(t *testing.T) {
	for _, v := range readTopics(t).PubsubTopics {
		t.Run(v.Input.Topic, func(t *testing.T) {
			got, err := sharding.ParsePubsubTopic(v.Input.Topic)
			if !v.Expected.Valid {
				assert.ErrorIs(t, err, sharding.ErrPubsubTopic)
				assert.Zero(t, got)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, sharding.Shard{Cluster: v.Expected.Cluster, Index: v.Expected.Shard}, got)
			assert.Equal(t, v.Input.Topic, got.PubsubTopic())
		})
	}
}

func TestStatusContentTopicVectors(t *testing.T) {
	for _, v := range readTopics(t).ChatNames {
		got := sharding.StatusContentTopic(v.Input.Name)
		assert.Equal(t, v.Expected.ContentTopic, got)
		assert.Contains(t, got, hex.EncodeToString(v.Expected.Keccak[:4]))
		assert.Contains(t, got, v.Expected.Topic4)
	}
}

func TestPartitionVectors(t *testing.T) {
	for _, v := range readTopics(t).Partitioned {
		want := v.Expected
		for _, key := range [][]byte{want.Compressed, want.Uncompressed} {
			deployed, err := sharding.DeployedPartition(key)
			require.NoError(t, err)
			assert.Equal(t, sharding.Partition{
				Number: want.Number, Name: want.Name, ContentTopic: want.Topic,
				Shard: sharding.Shard{Cluster: 16, Index: 32},
			}, deployed)
			assert.Contains(t, deployed.ContentTopic, want.Topic4)

			planned, err := sharding.PlannedPartition(key)
			require.NoError(t, err)
			name := "contact-discovery-" + strconv.Itoa(want.PlannedNumber)
			assert.Equal(t, sharding.Partition{
				Number: want.PlannedNumber, Name: name, ContentTopic: sharding.StatusContentTopic(name),
				Shard: sharding.Shard{Cluster: 16, Index: want.PlannedShard},
			}, planned)

			shard, err := sharding.OneToOneShard(key)
			require.NoError(t, err)
			assert.Equal(t, planned.Shard, shard)
		}
		assert.Equal(t, want.CommunityTopic, sharding.StatusContentTopic(want.CommunityID))
		assert.Equal(t, want.ContactTopic, sharding.StatusContentTopic(want.ContactName))
		assert.Equal(t, want.PersonalTopic, sharding.StatusContentTopic(want.PersonalName))
	}
}

func TestAutoshardVectors(t *testing.T) {
	type input struct {
		Topic  string `json:"content_topic"`
		Shards int    `json:"shards_in_network"`
	}
	v := readVectors[struct {
		Errors  []struct{ Input input }
		Vectors []struct {
			Input    input
			Expected struct {
				Application string
				Version     string
				Digest      hexBytes `json:"sha256_hex"`
				Last        uint64   `json:"last8_be_uint64,string"`
				Shard       uint16
			}
		}
	}](t, "autosharding.json")
	require.NotEmpty(t, v.Errors)
	require.NotEmpty(t, v.Vectors)

	for _, v := range v.Errors {
		_, err := sharding.Autoshard(v.Input.Topic, 1, 8)
		assert.ErrorIs(t, err, sharding.ErrContentTopic, v.Input.Topic)
	}
	for _, v := range v.Vectors {
		parts, err := sharding.ParseContentTopic(v.Input.Topic)
		require.NoError(t, err)
		assert.Equal(t, v.Expected.Application, parts.Application)
		assert.Equal(t, v.Expected.Version, parts.Version)
		digest := sha256.Sum256([]byte(parts.Application + parts.Version))
		assert.Equal(t, []byte(v.Expected.Digest), digest[:])
		assert.Equal(t, v.Expected.Last, binary.BigEndian.Uint64(digest[24:]))

		got, err := sharding.Autoshard(v.Input.Topic, 1, v.Input.Shards)
		require.NoError(t, err)
		assert.Equal(t, sharding.Shard{Cluster: 1, Index: v.Expected.Shard}, got, "%s of %d", v.Input.Topic, v.Input.Shards)
	}
}

type setVector struct {
	ID    string
	Input struct {
		Cluster uint16
		Key     string
		Shards  []uint16
		Value   hexBytes `json:"value_hex"`
	}
	Expected struct {
		Value hexBytes `json:"value_hex"`
	}
}

type setVectors struct {
	RS     []setVector `json:"rs"`
	RSV    []setVector `json:"rsv"`
	Errors []struct {
		Input struct {
			Key   string
			Value hexBytes `json:"value_hex"`
		}
		Expected string
		Note     string
	}
}

func readSets(t testing.TB) setVectors {
	v := readVectors[setVectors](t, "static-shard-enr.json")
	require.NotEmpty(t, v.RS)
	require.NotEmpty(t, v.RSV)
	require.NotEmpty(t, v.Errors)
	return v
}

func TestSetVectors(t *testing.T) {
	v := readSets(t)
	for _, v := range append(v.RS, v.RSV...) {
		t.Run(v.ID, func(t *testing.T) {
			set, err := sharding.NewSet(v.Input.Cluster, v.Input.Shards...)
			require.NoError(t, err)

			var value []byte
			var decoded sharding.Set
			switch v.Input.Key {
			case sharding.KeyRS:
				value, err = set.EncodeRS()
				require.NoError(t, err)
				decoded, err = sharding.DecodeRS(v.Expected.Value)
			case sharding.KeyRSV:
				value = set.EncodeRSV()
				decoded, err = sharding.DecodeRSV(v.Expected.Value)
			default:
				t.Fatal("unknown key", v.Input.Key)
			}
			require.NoError(t, err)
			assert.Equal(t, []byte(v.Expected.Value), value)
			assert.Equal(t, set, decoded)
			assert.Equal(t, v.Input.Shards, decoded.Indices())

			key, value := set.Encode()
			if len(v.Input.Shards) < 64 {
				assert.Equal(t, "rs", key)
			} else {
				assert.Equal(t, "rsv", key)
			}
			if key == v.Input.Key {
				assert.Equal(t, []byte(v.Expected.Value), value)
			}
		})
	}
}

func TestSetErrorVectors(t *testing.T) {
	decode := map[string]func([]byte) (sharding.Set, error){
		"rs": sharding.DecodeRS, "rsv": sharding.DecodeRSV,
	}
	for _, v := range readSets(t).Errors {
		t.Run(v.Input.Key+" "+v.Note, func(t *testing.T) {
			require.Contains(t, decode, v.Input.Key)
			set, err := decode[v.Input.Key](v.Input.Value)
			switch v.Expected {
			case "error":
				assert.Error(t, err)
				assert.Zero(t, set)
			case "error or empty set":
				require.NoError(t, err)
				assert.Zero(t, set.Len())
				assert.Equal(t, uint16(16), set.Cluster())
			default:
				t.Fatal("unknown expectation", v.Expected)
			}
		})
	}
}
