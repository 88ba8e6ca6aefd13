package segment_test

import (
	"bytes"
	"fmt"

	"github.com/status-im/shoal/message/segment"
)

func Example() {
	description := bytes.Repeat([]byte("a long description, "), 50_000)
	segments, err := segment.Split(description, segment.Size(150<<10))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(description), "bytes in", len(segments), "segments,", segments[0].Count, "of them data")

	// On the way one is lost.
	a := segment.NewAssembler(segment.Config{})
	for _, s := range segments[1:] {
		read, err := segment.Decode(s.Encode())
		if err != nil {
			fmt.Println(err)
			return
		}
		whole, err := a.Add("the owner's key", read)
		if err != nil {
			fmt.Println(err)
		}
		if whole != nil {
			fmt.Println("whole again:", bytes.Equal(whole, description))
		}
	}
	// Output:
	// 1000000 bytes in 10 segments, 9 of them data
	// whole again: true
}
