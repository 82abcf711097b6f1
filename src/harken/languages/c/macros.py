"""Constants and macros of the kernel's headers that BTF cannot have, because it knows types and enumerators only.

One table for all kernels.  A macro is written before a program only if the program mentions it and neither the program nor BTF (as an
enumerator: kernels turn macros into enums now and then) defines it.  What depends on the kernel's configuration is taken from there.

``ALIASES`` are the headers' macros that stand for members (``sk->sk_family`` is ``sk->__sk_common.skc_family``).  They are written as
members at the same place instead, so that a program's own struct may use the same name.

Facts: include/uapi/linux and include/linux of Linux; numbers are user ABI or, where they are not, unchanged since Linux 4.9 in all
kernels that have them.
"""

from __future__ import annotations

__all__ = ("MACROS", "ALIASES", "STUB_TYPES")

#: name (with parameters) -> replacement.  ``{page}`` and the like are filled in from the kernel.
_TABLE = r"""
PAGE_SHIFT {page_shift}
PAGE_SIZE (1UL << {page_shift})
PAGE_MASK (~(PAGE_SIZE - 1))
HZ {hz}
BITS_PER_LONG 64
TASK_COMM_LEN 16
NAME_MAX 255
PATH_MAX 4096
DNAME_INLINE_LEN 40
IFNAMSIZ 16
DISK_NAME_LEN 32
BDEVNAME_SIZE 32
UNIX_PATH_MAX 108
MINORBITS 20
MINORMASK ((1U << MINORBITS) - 1)
MAJOR(dev) ((unsigned int)((dev) >> MINORBITS))
MINOR(dev) ((unsigned int)((dev) & MINORMASK))
MKDEV(ma, mi) (((ma) << MINORBITS) | (mi))
CHAR_BIT 8
INT_MAX ((int)(~0U >> 1))
INT_MIN (-INT_MAX - 1)
UINT_MAX (~0U)
LONG_MAX ((long)(~0UL >> 1))
ULONG_MAX (~0UL)
LLONG_MAX ((long long)(~0ULL >> 1))
ULLONG_MAX (~0ULL)
U8_MAX ((u8)~0U)
U16_MAX ((u16)~0U)
U32_MAX ((u32)~0U)
U64_MAX ((u64)~0ULL)
S32_MAX ((s32)(U32_MAX >> 1))
S64_MAX ((s64)(U64_MAX >> 1))
SIZE_MAX (~(size_t)0)
UINT8_MAX 255
UINT16_MAX 65535
UINT32_MAX 4294967295U
UINT64_MAX (~0ULL)
INT32_MAX INT_MAX
INT64_MAX LLONG_MAX
NSEC_PER_USEC 1000L
NSEC_PER_MSEC 1000000L
NSEC_PER_SEC 1000000000L
USEC_PER_SEC 1000000L
USEC_PER_MSEC 1000L
MSEC_PER_SEC 1000L
BIT(n) (1UL << (n))
BIT_ULL(n) (1ULL << (n))
GENMASK(h, l) (((~0UL) << (l)) & (~0UL >> (BITS_PER_LONG - 1 - (h))))
ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
min(a, b) ({{ __typeof__(a) _min_a = (a); __typeof__(b) _min_b = (b); _min_a < _min_b ? _min_a : _min_b; }})
max(a, b) ({{ __typeof__(a) _max_a = (a); __typeof__(b) _max_b = (b); _max_a > _max_b ? _max_a : _max_b; }})
min_t(t, a, b) ({{ t _min_a = (a); t _min_b = (b); _min_a < _min_b ? _min_a : _min_b; }})
max_t(t, a, b) ({{ t _max_a = (a); t _max_b = (b); _max_a > _max_b ? _max_a : _max_b; }})
clamp(x, lo, hi) min(max(x, lo), hi)
swap(a, b) do {{ __typeof__(a) _swap = (a); (a) = (b); (b) = _swap; }} while (0)
abs(x) ({{ __typeof__(x) _abs = (x); _abs < 0 ? -_abs : _abs; }})
DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))
roundup(x, y) ((((x) + ((y) - 1)) / (y)) * (y))
rounddown(x, y) ((x) - ((x) % (y)))
round_up(x, y) ((((x) - 1) | ((__typeof__(x))((y) - 1))) + 1)
round_down(x, y) ((x) & ~((__typeof__(x))((y) - 1)))
ALIGN(x, a) (((x) + ((__typeof__(x))(a) - 1)) & ~((__typeof__(x))(a) - 1))
roundup_pow_of_two(n) _HARKEN_POW2(n)
ilog2(n) (63 - __builtin_clzll(n))
sizeof_field(t, m) sizeof(((t *)0)->m)
FIELD_SIZEOF(t, m) sizeof(((t *)0)->m)
offsetofend(t, m) (offsetof(t, m) + sizeof(((t *)0)->m))
list_entry(p, t, m) container_of(p, t, m)
list_first_entry(p, t, m) list_entry((p)->next, t, m)
hlist_entry(p, t, m) container_of(p, t, m)
rb_entry(p, t, m) container_of(p, t, m)
IS_ERR_VALUE(x) ((unsigned long)(void *)(x) >= (unsigned long)-MAX_ERRNO)
IS_ERR(x) IS_ERR_VALUE((unsigned long)(x))
IS_ERR_OR_NULL(x) (!(x) || IS_ERR_VALUE((unsigned long)(x)))
PTR_ERR(x) ((long)(x))
ERR_PTR(x) ((void *)(long)(x))
MAX_ERRNO 4095
noinline __attribute__((__noinline__))
__stringify(x...) __stringify_1(x)
__stringify_1(x...) #x
ntohs(x) bpf_ntohs(x)
ntohl(x) bpf_ntohl(x)
htons(x) bpf_htons(x)
htonl(x) bpf_htonl(x)
be16_to_cpu(x) bpf_ntohs(x)
be32_to_cpu(x) bpf_ntohl(x)
be64_to_cpu(x) bpf_ntohll(x)
cpu_to_be16(x) bpf_htons(x)
cpu_to_be32(x) bpf_htonl(x)
cpu_to_be64(x) bpf_htonll(x)
__be16_to_cpu(x) bpf_ntohs(x)
__be32_to_cpu(x) bpf_ntohl(x)
__constant_htons(x) bpf_htons(x)
__constant_htonl(x) bpf_htonl(x)
le16_to_cpu(x) ((u16)(x))
le32_to_cpu(x) ((u32)(x))
le64_to_cpu(x) ((u64)(x))
cpu_to_le16(x) ((u16)(x))
cpu_to_le32(x) ((u32)(x))
div_u64(n, d) ((u64)(n) / (u32)(d))
div64_u64(n, d) ((u64)(n) / (u64)(d))
div_s64(n, d) ((s64)(n) / (s32)(d))
do_div(n, base) ({{ u32 _base = (base); u32 _rest = (u64)(n) % _base; (n) = (u64)(n) / _base; _rest; }})
SG_CHAIN 0x01UL
SG_END 0x02UL
SG_PAGE_LINK_MASK (SG_CHAIN | SG_END)
sg_is_chain(sg) ((sg)->page_link & SG_CHAIN)
sg_is_last(sg) ((sg)->page_link & SG_END)
sg_chain_ptr(sg) ((struct scatterlist *)((sg)->page_link & ~SG_PAGE_LINK_MASK))
skb_get_rx_queue(skb) ((u16)((skb)->queue_mapping - 1))
skb_rx_queue_recorded(skb) ((skb)->queue_mapping != 0)
skb_get_queue_mapping(skb) ((skb)->queue_mapping)
skb_transport_header(skb) ((unsigned char *)((skb)->head + (skb)->transport_header))
skb_network_header(skb) ((unsigned char *)((skb)->head + (skb)->network_header))
skb_mac_header(skb) ((unsigned char *)((skb)->head + (skb)->mac_header))
tcp_hdr(skb) ((struct tcphdr *)skb_transport_header(skb))
udp_hdr(skb) ((struct udphdr *)skb_transport_header(skb))
ip_hdr(skb) ((struct iphdr *)skb_network_header(skb))
ipv6_hdr(skb) ((struct ipv6hdr *)skb_network_header(skb))
sock_net(sk) ((sk)->__sk_common.skc_net.net)
atomic_read(v) ((v)->counter)
atomic64_read(v) ((v)->counter)
atomic_long_read(v) ((v)->counter)
refcount_read(r) ((r)->refs.counter)
task_pid_nr(t) ((t)->pid)
task_tgid_nr(t) ((t)->tgid)
bio_data_dir(bio) ((bio)->bi_opf & 1)
req_op(req) ((req)->cmd_flags & REQ_OP_MASK)
rq_data_dir(rq) ((rq)->cmd_flags & 1)
op_is_write(op) (!!((op) & 1))
i_size_read(inode) ((inode)->i_size)
file_inode(f) ((f)->f_inode)
d_inode(d) ((d)->d_inode)
NFPROTO_DECNET 12
memcpy(d, s, n) __builtin_memcpy(d, s, n)
memset(d, c, n) __builtin_memset(d, c, n)
memmove(d, s, n) __builtin_memmove(d, s, n)
memcmp(a, b, n) __builtin_memcmp(a, b, n)
tcp_sk(x) ((struct tcp_sock *)(x))
inet_sk(x) ((struct inet_sock *)(x))
inet_csk(x) ((struct inet_connection_sock *)(x))
udp_sk(x) ((struct udp_sock *)(x))
unix_sk(x) ((struct unix_sock *)(x))
mptcp_sk(x) ((struct mptcp_sock *)(x))
SOCKET_I(x) (&container_of(x, struct socket_alloc, vfs_inode)->socket)
IP_MF 0x2000
IP_OFFSET 0x1FFF
TCP_FLAGS_OFFSET 13
AF_UNSPEC 0
AF_UNIX 1
AF_LOCAL 1
AF_INET 2
AF_INET6 10
AF_NETLINK 16
AF_PACKET 17
AF_VSOCK 40
AF_XDP 44
PF_UNIX 1
PF_INET 2
PF_INET6 10
SOL_SOCKET 1
SCM_RIGHTS 1
SCM_CREDENTIALS 2
SOCK_NONBLOCK 00004000
SOCK_CLOEXEC 02000000
ETH_ALEN 6
ETH_HLEN 14
ETH_P_IP 0x0800
ETH_P_ARP 0x0806
ETH_P_IPV6 0x86DD
ETH_P_8021Q 0x8100
ETH_P_8021AD 0x88A8
ETH_P_ALL 0x0003
IPPROTO_MPTCP 262
TCPHDR_FIN 0x01
TCPHDR_SYN 0x02
TCPHDR_RST 0x04
TCPHDR_PSH 0x08
TCPHDR_ACK 0x10
TCPHDR_URG 0x20
TCPHDR_ECE 0x40
TCPHDR_CWR 0x80
TASK_RUNNING 0
TASK_INTERRUPTIBLE 1
TASK_UNINTERRUPTIBLE 2
__TASK_STOPPED 4
__TASK_TRACED 8
EXIT_DEAD 16
EXIT_ZOMBIE 32
TASK_DEAD 128
TASK_NOLOAD 1024
TASK_IDLE (TASK_UNINTERRUPTIBLE | TASK_NOLOAD)
PF_IDLE 2
CAP_OPT_NONE 0
CAP_OPT_NOAUDIT 2
CAP_OPT_INSETID 4
PF_EXITING 4
PF_KSWAPD 0x00020000
PF_KTHREAD 0x00200000
CLONE_THREAD 0x00010000
CLONE_NEWNS 0x00020000
SIGNAL_GROUP_EXIT 4
O_ACCMODE 3
O_RDONLY 0
O_WRONLY 1
O_RDWR 2
O_CREAT 00000100
O_EXCL 00000200
O_TRUNC 00001000
O_APPEND 00002000
O_NONBLOCK 00004000
O_DIRECTORY 00200000
O_NOFOLLOW 00400000
O_CLOEXEC 02000000
O_TMPFILE (020000000 | O_DIRECTORY)
AT_FDCWD -100
FMODE_READ 1
FMODE_WRITE 2
FMODE_EXEC 0x20
FMODE_CREATED 0x100000
S_IFMT 00170000
S_IFSOCK 0140000
S_IFLNK 0120000
S_IFREG 0100000
S_IFBLK 0060000
S_IFDIR 0040000
S_IFCHR 0020000
S_IFIFO 0010000
S_ISREG(m) (((m) & S_IFMT) == S_IFREG)
S_ISDIR(m) (((m) & S_IFMT) == S_IFDIR)
S_ISCHR(m) (((m) & S_IFMT) == S_IFCHR)
S_ISBLK(m) (((m) & S_IFMT) == S_IFBLK)
S_ISFIFO(m) (((m) & S_IFMT) == S_IFIFO)
S_ISLNK(m) (((m) & S_IFMT) == S_IFLNK)
S_ISSOCK(m) (((m) & S_IFMT) == S_IFSOCK)
MS_RDONLY 1
MAY_EXEC 1
MAY_WRITE 2
MAY_READ 4
REQ_OP_BITS 8
REQ_OP_MASK ((1 << REQ_OP_BITS) - 1)
REQ_RAHEAD (1ULL << __REQ_RAHEAD)
REQ_SYNC (1ULL << __REQ_SYNC)
REQ_META (1ULL << __REQ_META)
REQ_PRIO (1ULL << __REQ_PRIO)
REQ_FUA (1ULL << __REQ_FUA)
REQ_PREFLUSH (1ULL << __REQ_PREFLUSH)
REQ_FAILFAST_DEV (1ULL << __REQ_FAILFAST_DEV)
REQ_FAILFAST_TRANSPORT (1ULL << __REQ_FAILFAST_TRANSPORT)
REQ_FAILFAST_DRIVER (1ULL << __REQ_FAILFAST_DRIVER)
REQ_NOMERGE (1ULL << __REQ_NOMERGE)
REQ_IDLE (1ULL << __REQ_IDLE)
REQ_BACKGROUND (1ULL << __REQ_BACKGROUND)
REQ_NOWAIT (1ULL << __REQ_NOWAIT)
SECTOR_SHIFT 9
SECTOR_SIZE 512
SOFTIRQ_BITS 8
PREEMPT_BITS 8
PREEMPT_SHIFT 0
NMI_MASK 0x00f00000
HARDIRQ_MASK 0x000f0000
SOFTIRQ_MASK 0x0000ff00
PAGE_OFFSET {page_offset}
SLAB_RECLAIM_ACCOUNT 0x00020000UL
IOCB_DIRECT (1 << 17)
ITER_IOVEC 0
READ 0
WRITE 1
ITER_SOURCE 1
ITER_DEST 0
SCHED_NORMAL 0
SCHED_FIFO 1
SCHED_RR 2
SCHED_IDLE 5
SCHED_DEADLINE 6
IRQF_SHARED 0x00000080
PRIO_PROCESS 0
XDP_PACKET_HEADROOM 256
VIRTIO_RING_F_EVENT_IDX 29
KASAN_TAG_KERNEL 0xFF
EPERM 1
ENOENT 2
ESRCH 3
EINTR 4
EIO 5
ENXIO 6
E2BIG 7
ENOEXEC 8
EBADF 9
ECHILD 10
EAGAIN 11
ENOMEM 12
EACCES 13
EFAULT 14
ENOTBLK 15
EBUSY 16
EEXIST 17
EXDEV 18
ENODEV 19
ENOTDIR 20
EISDIR 21
EINVAL 22
ENFILE 23
EMFILE 24
ENOTTY 25
ETXTBSY 26
EFBIG 27
ENOSPC 28
ESPIPE 29
EROFS 30
EMLINK 31
EPIPE 32
EDOM 33
ERANGE 34
EDEADLK 35
ENAMETOOLONG 36
ENOSYS 38
EWOULDBLOCK 11
ETIMEDOUT 110
ECONNREFUSED 111
ECONNRESET 104
EINPROGRESS 115
EADDRINUSE 98
ENOTCONN 107
ENETUNREACH 101
EHOSTUNREACH 113
EOPNOTSUPP 95
ERESTARTSYS 512
SIGKILL 9
SIGTERM 15
SIGSTOP 19
BPF_ANY 0
BPF_NOEXIST 1
BPF_EXIST 2
BPF_F_LOCK 4
BPF_F_NO_PREALLOC 1
BPF_F_NO_COMMON_LRU 2
BPF_F_NUMA_NODE 4
BPF_F_RDONLY 8
BPF_F_WRONLY 16
BPF_F_STACK_BUILD_ID 32
BPF_F_RDONLY_PROG 128
BPF_F_WRONLY_PROG 256
BPF_F_INNER_MAP 4096
BPF_F_MMAPABLE 1024
BPF_F_INDEX_MASK 0xffffffffULL
BPF_F_CURRENT_CPU BPF_F_INDEX_MASK
BPF_F_CTXLEN_MASK (0xfffffULL << 32)
BPF_F_SKIP_FIELD_MASK 0xffULL
BPF_F_USER_STACK 256
BPF_F_FAST_STACK_CMP 512
BPF_F_REUSE_STACKID 1024
BPF_F_USER_BUILD_ID 2048
BPF_RB_NO_WAKEUP 1
BPF_RB_FORCE_WAKEUP 2
BPF_RB_AVAIL_DATA 0
BPF_RB_RING_SIZE 1
BPF_RB_CONS_POS 2
BPF_RB_PROD_POS 3
BPF_SK_STORAGE_GET_F_CREATE 1
BPF_LOCAL_STORAGE_GET_F_CREATE 1
XDP_ABORTED 0
XDP_DROP 1
XDP_PASS 2
XDP_TX 3
XDP_REDIRECT 4
TC_ACT_OK 0
TC_ACT_SHOT 2
TC_ACT_UNSPEC -1
TC_ACT_PIPE 3
TC_ACT_STOLEN 4
TC_ACT_REDIRECT 7
"""


def _split(line: str) -> tuple[str, str]:
    """(name, "#define" line without the word) of a line of the table; blanks inside of a parameter list do not end it."""
    head = line.split("(", 1)[0]
    if " " in head or "(" not in line:
        name, _, text = line.partition(" ")
        return name, f"{name} {text}"
    return head, line


#: name -> text after ``#define``, with ``str.format`` places for what the kernel decides
MACROS: dict[str, str] = dict(_split(line) for line in _TABLE.strip().splitlines())

#: struct -> member -> path of the member that it stands for
ALIASES: dict[str, dict[str, str]] = {
    "sock": {
        "sk_node": "__sk_common.skc_node",
        "sk_refcnt": "__sk_common.skc_refcnt",
        "sk_hash": "__sk_common.skc_hash",
        "sk_portpair": "__sk_common.skc_portpair",
        "sk_num": "__sk_common.skc_num",
        "sk_dport": "__sk_common.skc_dport",
        "sk_addrpair": "__sk_common.skc_addrpair",
        "sk_daddr": "__sk_common.skc_daddr",
        "sk_rcv_saddr": "__sk_common.skc_rcv_saddr",
        "sk_family": "__sk_common.skc_family",
        "sk_state": "__sk_common.skc_state",
        "sk_reuse": "__sk_common.skc_reuse",
        "sk_reuseport": "__sk_common.skc_reuseport",
        "sk_ipv6only": "__sk_common.skc_ipv6only",
        "sk_net_refcnt": "__sk_common.skc_net_refcnt",
        "sk_bound_dev_if": "__sk_common.skc_bound_dev_if",
        "sk_bind_node": "__sk_common.skc_bind_node",
        "sk_prot": "__sk_common.skc_prot",
        "sk_net": "__sk_common.skc_net",
        "sk_v6_daddr": "__sk_common.skc_v6_daddr",
        "sk_v6_rcv_saddr": "__sk_common.skc_v6_rcv_saddr",
        "sk_cookie": "__sk_common.skc_cookie",
        "sk_incoming_cpu": "__sk_common.skc_incoming_cpu",
        "sk_flags": "__sk_common.skc_flags",
        "sk_rxhash": "__sk_common.skc_rxhash",
    },
    "inet_sock": {
        "inet_daddr": "sk.__sk_common.skc_daddr",
        "inet_rcv_saddr": "sk.__sk_common.skc_rcv_saddr",
        "inet_dport": "sk.__sk_common.skc_dport",
        "inet_num": "sk.__sk_common.skc_num",
    },
    "inet_request_sock": {
        "ir_loc_addr": "req.__req_common.skc_rcv_saddr",
        "ir_rmt_addr": "req.__req_common.skc_daddr",
        "ir_num": "req.__req_common.skc_num",
        "ir_rmt_port": "req.__req_common.skc_dport",
        "ir_v6_rmt_addr": "req.__req_common.skc_v6_daddr",
        "ir_v6_loc_addr": "req.__req_common.skc_v6_rcv_saddr",
        "ir_iif": "req.__req_common.skc_bound_dev_if",
        "ireq_net": "req.__req_common.skc_net",
        "ireq_family": "req.__req_common.skc_family",
    },
    "inet_timewait_sock": {
        "tw_family": "__tw_common.skc_family",
        "tw_state": "__tw_common.skc_state",
        "tw_daddr": "__tw_common.skc_daddr",
        "tw_rcv_saddr": "__tw_common.skc_rcv_saddr",
        "tw_dport": "__tw_common.skc_dport",
        "tw_num": "__tw_common.skc_num",
        "tw_net": "__tw_common.skc_net",
    },
    "request_sock": {
        "rsk_refcnt": "__req_common.skc_refcnt",
        "rsk_hash": "__req_common.skc_hash",
        "rsk_listener": "__req_common.skc_listener",
    },
    "in6_addr": {"s6_addr": "in6_u.u6_addr8", "s6_addr16": "in6_u.u6_addr16", "s6_addr32": "in6_u.u6_addr32"},
}

#: Types that other headers of a program's includes define and BTF may not have: name -> definition.
STUB_TYPES: dict[str, str] = {
    "bpf_raw_tracepoint_args": "struct bpf_raw_tracepoint_args { unsigned long long args[0]; };",
    "bpf_stacktrace_buildid": "struct bpf_stacktrace_buildid { struct bpf_stack_build_id trace[127]; };",
}
