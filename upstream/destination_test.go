package upstream

import (
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// What nobody may name from outside, in every way to write it.
func TestDestinationsRefused(t *testing.T) {
	own := new(ownAddresses)
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var mine []string
	for _, a := range all {
		mine = append(mine, a.(*net.IPNet).IP.String())
	}
	for _, address := range append(mine,
		"127.0.0.1", "127.8.9.1", "::1", "0.0.0.0", "0.1.2.3", "::",
		"169.254.169.254", "169.254.170.2", "169.254.0.1", "fe80::1", "fe80::1%lo", "febf::1", "fec0::1",
		"fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "168.63.129.16", "100.100.100.200", "192.0.0.192",
		"224.0.0.1", "255.255.255.255", "240.0.0.1", "ff02::1",
		"::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::127.0.0.1",
		"64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::a9fe:a9fe",
		"64:ff9b:1::127.0.0.1", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:12a9:fe:a9fe::",
		"2002:7f00:1::1", "2002:a9fe:a9fe::", "2001:0:1::80ff:fffe",
	) {
		if new(Destinations).permits(netip.MustParseAddr(address), own) {
			t.Errorf("%s is permitted", address)
		}
	}
	for _, address := range []string{"192.0.2.1", "10.1.2.3", "8.8.8.8", "2001:db8::1", "fd00::1", "64:ff9b::8.8.8.8", "2002:808:808::1", "::ffff:8.8.8.8", "126.255.255.255", "1.0.0.0", "169.253.255.255"} {
		if !new(Destinations).permits(netip.MustParseAddr(address), own) {
			t.Errorf("%s is refused", address)
		}
	}
	some := &Destinations{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32"), netip.MustParsePrefix("fe80::/64")}}
	for address, want := range map[string]bool{"127.0.0.2": true, "::ffff:127.0.0.2": true, "127.0.0.1": false, "fe80::5%lo": true, "fe80:0:0:1::5": false, "64:ff9b::127.0.0.2": false} {
		if got := some.permits(netip.MustParseAddr(address), own); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

func TestDestinationsHosts(t *testing.T) {
	d := &Destinations{Hosts: []string{"a.example", "*.internal.example", "10.0.0.1"}}
	for host, want := range map[string]bool{
		"a.example": true, "A.Example.": true, "b.a.example": false, "x.internal.example": true, "x.y.internal.example": true,
		"internal.example": false, ".internal.example": false, "xinternal.example": false, "evil.example": false, "a.example.evil": false,
	} {
		if got := d.permitsHost(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

func TestDestination(t *testing.T) {
	for _, tc := range []struct{ host, scheme, want string }{
		{"a.example", "http", "a.example:80"}, {"a.example", "https", "a.example:443"}, {"a.example:9000", "https", "a.example:9000"},
		{"[2001:db8::1]", "http", "[2001:db8::1]:80"}, {"[2001:db8::1]:8080", "http", "[2001:db8::1]:8080"}, {"192.0.2.1:1", "http", "192.0.2.1:1"},
		{"a.example:65535", "http", "a.example:65535"},
		{"", "http", ""}, {":80", "http", ""}, {"a.example:", "http", ""}, {"a.example:0", "http", ""}, {"a.example:65536", "http", ""}, {"a.example:-1", "http", ""}, {"[]", "http", ""},
	} {
		e, err := destination(&http.Request{Host: tc.host}, tc.scheme)
		switch {
		case tc.want == "" && (err == nil || fault.Of(err).Code != fault.BadRequest):
			t.Errorf("%q: %v, %v", tc.host, e, err)
		case tc.want != "" && (err != nil || e.Address() != tc.want):
			t.Errorf("%q: %v, %v", tc.host, e, err)
		}
	}
}
