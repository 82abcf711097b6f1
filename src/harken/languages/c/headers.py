"""The C text that stands before every program: the dialect's macros, and nothing of the kernel's headers.

``BPF_HASH`` and its relatives declare a variable of a struct whose members are the map's methods, marked with an ``annotate``
attribute by which the parser knows it; calls of methods are then ordinary, type-checked C.  Probe macros only spell function names
(``tracepoint__sched__sched_switch``), by which functions are told what they are for.

Types and constants of the kernel are not here: ``declarations`` writes those that a program mentions, ``macros`` those that no type
data has.
"""

from __future__ import annotations

from ...abi.arch import for_machine

__all__ = ("BASE", "BASE_NAMES", "COMMON", "PACKETS", "PACKET_MARK", "TABLES", "pt_regs", "registers")

#: Types that programs use without naming a header; the same in every kernel.
BASE = """
typedef signed char s8; typedef unsigned char u8; typedef short s16; typedef unsigned short u16;
typedef int s32; typedef unsigned int u32; typedef long long s64; typedef unsigned long long u64;
typedef signed char __s8; typedef unsigned char __u8; typedef short __s16; typedef unsigned short __u16;
typedef int __s32; typedef unsigned int __u32; typedef long long __s64; typedef unsigned long long __u64;
typedef signed char int8_t; typedef unsigned char uint8_t; typedef short int16_t; typedef unsigned short uint16_t;
typedef int int32_t; typedef unsigned int uint32_t; typedef long long int64_t; typedef unsigned long long uint64_t;
typedef __u16 __le16; typedef __u16 __be16; typedef __u32 __le32; typedef __u32 __be32; typedef __u64 __le64; typedef __u64 __be64;
typedef __u16 __sum16; typedef __u32 __wsum;
typedef unsigned long size_t; typedef long ssize_t; typedef unsigned long uintptr_t; typedef long ptrdiff_t; typedef long long loff_t;
typedef int pid_t; typedef unsigned int uid_t; typedef unsigned int gid_t; typedef unsigned int dev_t; typedef unsigned short umode_t;
typedef unsigned int gfp_t; typedef unsigned int fmode_t; typedef unsigned long ino_t; typedef long off_t; typedef int clockid_t;
typedef u64 sector_t; typedef u64 blkcnt_t; typedef long long ktime_t; typedef int key_serial_t; typedef unsigned int slab_flags_t;
typedef long time_t; typedef long long time64_t; typedef unsigned int uint; typedef unsigned long ulong; typedef unsigned short ushort;
"""
#: the names that ``BASE`` defines
BASE_NAMES = frozenset(part.split()[-1] for part in BASE.replace("\n", " ").split(";") if part.strip())

#: ``PT_REGS_...`` by machine: macro -> member of struct pt_regs
_REGISTERS: dict[str, dict[str, str]] = {
    "x86_64": {
        "PARM1": "di", "PARM2": "si", "PARM3": "dx", "PARM4": "cx", "PARM5": "r8", "PARM6": "r9",
        "RET": "sp", "FP": "bp", "RC": "ax", "SP": "sp", "IP": "ip",
    },
    "aarch64": {
        "PARM1": "regs[0]", "PARM2": "regs[1]", "PARM3": "regs[2]", "PARM4": "regs[3]", "PARM5": "regs[4]", "PARM6": "regs[5]",
        "RET": "regs[30]", "FP": "regs[29]", "RC": "regs[0]", "SP": "sp", "IP": "pc",
    },
}  # fmt: skip


def registers(machine: str) -> str:
    """The ``PT_REGS_...`` macros of a machine ("x86_64", "aarch64")."""
    members = _REGISTERS[machine]
    lines = [f"#define PT_REGS_{name}(_ctx) ((_ctx)->{member})" for name, member in members.items()]
    lines.append("#define PT_REGS_SYSCALL_CTX(_ctx) ((struct pt_regs *)PT_REGS_PARM1(_ctx))")
    for number in range(1, 7):
        member = "r10" if number == 4 and machine == "x86_64" else members[f"PARM{number}"]
        lines.append(f"#define PT_REGS_PARM{number}_SYSCALL(_ctx) ((_ctx)->{member})")
    return "\n".join(lines) + "\n"


def pt_regs(machine: str) -> str:
    """``struct pt_regs`` for kernels without type data."""
    if machine == "aarch64":
        return "struct pt_regs { unsigned long regs[31]; unsigned long sp; unsigned long pc; unsigned long pstate; };"
    names: dict[int, str] = {}
    for name, offset in for_machine(machine).registers.items():
        names.setdefault(offset, name)
    return "struct pt_regs { " + " ".join(f"unsigned long {names[offset]};" for offset in sorted(names)) + " };"


TABLES = r"""
/* -- maps: a struct with the map's methods and an annotated variable of it */
#define _HARKEN_TABLE(_kind, _members, _name, _max, _flags) \
  struct _name##_table_t { _members unsigned long max_entries; unsigned long flags; }; \
  __attribute__((annotate("harken.table:" _kind))) struct _name##_table_t _name = { .max_entries = (_max), .flags = (_flags) }
#define _HARKEN_KEYED(_key, _leaf) \
  _key key; _leaf leaf; \
  _leaf *(*lookup)(_key *); _leaf *(*lookup_or_init)(_key *, _leaf *); _leaf *(*lookup_or_try_init)(_key *, _leaf *); \
  int (*update)(_key *, _leaf *); int (*insert)(_key *, _leaf *); int (*delete)(_key *); \
  void (*call)(void *, int); void (*increment)(_key, ...); void (*atomic_increment)(_key, ...); \
  int (*get_stackid)(void *, u64); \
  void *(*sk_storage_get)(void *, void *, int); int (*sk_storage_delete)(void *); \
  void *(*inode_storage_get)(void *, void *, int); int (*inode_storage_delete)(void *); \
  void *(*task_storage_get)(void *, void *, int); int (*task_storage_delete)(void *);
#define _HARKEN_POW2(_n) ((_n) <= 1 ? 1UL : 1UL << (64 - __builtin_clzl((unsigned long)(_n) - 1)))
#define _HARKEN_NTH(_1, _2, _3, _4, _5, _6, _7, _chosen, ...) _chosen
#define _HARKEN_SCOPE(_scope, _name) \
  extern __attribute__((annotate("harken.scope:" _scope ":" #_name))) struct _name##_table_t __##_name

#define BPF_F_TABLE(_type, _key, _leaf, _name, _max, _flags) _HARKEN_TABLE(_type, _HARKEN_KEYED(_key, _leaf), _name, _max, _flags)
#define BPF_TABLE(_type, _key, _leaf, _name, _max) BPF_F_TABLE(_type, _key, _leaf, _name, _max, 0)
#define BPF_TABLE_PUBLIC(_type, _key, _leaf, _name, _max) BPF_TABLE(_type, _key, _leaf, _name, _max); _HARKEN_SCOPE("public", _name)
#define BPF_TABLE_SHARED(_type, _key, _leaf, _name, _max) BPF_TABLE(_type, _key, _leaf, _name, _max); _HARKEN_SCOPE("shared", _name)
#define _HARKEN_PINNED7(_type, _key, _leaf, _name, _max, _path, _flags) BPF_F_TABLE(_type ":" _path, _key, _leaf, _name, _max, _flags)
#define _HARKEN_PINNED6(_type, _key, _leaf, _name, _max, _path) _HARKEN_PINNED7(_type, _key, _leaf, _name, _max, _path, 0)
#define BPF_TABLE_PINNED(...) _HARKEN_NTH(__VA_ARGS__, _HARKEN_PINNED7, _HARKEN_PINNED6)(__VA_ARGS__)

#define _HARKEN_CHOOSE(_1, _2, _3, _4, _chosen, ...) _chosen
#define _HARKEN_HASH1(_t, _n) BPF_TABLE(_t, u64, u64, _n, 10240)
#define _HARKEN_HASH2(_t, _n, _k) BPF_TABLE(_t, _k, u64, _n, 10240)
#define _HARKEN_HASH3(_t, _n, _k, _v) BPF_TABLE(_t, _k, _v, _n, 10240)
#define _HARKEN_HASH4(_t, _n, _k, _v, _m) BPF_TABLE(_t, _k, _v, _n, _m)
#define _HARKEN_HASH(_t, ...) \
  _HARKEN_CHOOSE(__VA_ARGS__, _HARKEN_HASH4, _HARKEN_HASH3, _HARKEN_HASH2, _HARKEN_HASH1)(_t, __VA_ARGS__)
#define BPF_HASH(...) _HARKEN_HASH("hash", __VA_ARGS__)
#define BPF_PERCPU_HASH(...) _HARKEN_HASH("percpu_hash", __VA_ARGS__)
#define BPF_LRU_HASH(...) _HARKEN_HASH("lru_hash", __VA_ARGS__)
#define BPF_LRU_PERCPU_HASH(...) _HARKEN_HASH("lru_percpu_hash", __VA_ARGS__)
#define _HARKEN_ARRAY1(_t, _n) BPF_TABLE(_t, int, u64, _n, 10240)
#define _HARKEN_ARRAY2(_t, _n, _v) BPF_TABLE(_t, int, _v, _n, 10240)
#define _HARKEN_ARRAY3(_t, _n, _v, _m) BPF_TABLE(_t, int, _v, _n, _m)
#define _HARKEN_ARRAY(_t, ...) _HARKEN_CHOOSE(__VA_ARGS__, 0, _HARKEN_ARRAY3, _HARKEN_ARRAY2, _HARKEN_ARRAY1)(_t, __VA_ARGS__)
#define BPF_ARRAY(...) _HARKEN_ARRAY("array", __VA_ARGS__)
#define BPF_PERCPU_ARRAY(...) _HARKEN_ARRAY("percpu_array", __VA_ARGS__)
#define _HARKEN_HIST1(_n) BPF_TABLE("histogram", int, u64, _n, 64)
#define _HARKEN_HIST2(_n, _k) BPF_TABLE("histogram", _k, u64, _n, 64)
#define _HARKEN_HIST3(_n, _k, _m) BPF_TABLE("histogram", _k, u64, _n, _m)
#define BPF_HISTOGRAM(...) _HARKEN_CHOOSE(__VA_ARGS__, 0, _HARKEN_HIST3, _HARKEN_HIST2, _HARKEN_HIST1)(__VA_ARGS__)
#define _HARKEN_TRIE1(_n) BPF_F_TABLE("lpm_trie", u64, u64, _n, 10240, 1)
#define _HARKEN_TRIE2(_n, _k) BPF_F_TABLE("lpm_trie", _k, u64, _n, 10240, 1)
#define _HARKEN_TRIE3(_n, _k, _v) BPF_F_TABLE("lpm_trie", _k, _v, _n, 10240, 1)
#define _HARKEN_TRIE4(_n, _k, _v, _m) BPF_F_TABLE("lpm_trie", _k, _v, _n, _m, 1)
#define BPF_LPM_TRIE(...) _HARKEN_CHOOSE(__VA_ARGS__, _HARKEN_TRIE4, _HARKEN_TRIE3, _HARKEN_TRIE2, _HARKEN_TRIE1)(__VA_ARGS__)
#define BPF_STACK_TRACE(_name, _max) BPF_TABLE("stacktrace", int, struct bpf_stacktrace, _name, _HARKEN_POW2(_max))
#define BPF_STACK_TRACE_BUILDID(_name, _max) \
  BPF_F_TABLE("stacktrace", int, struct bpf_stacktrace_buildid, _name, _HARKEN_POW2(_max), 32)
#define BPF_PROG_ARRAY(_name, _max) BPF_TABLE("prog", u32, u32, _name, _max)
#define BPF_ARRAY_OF_MAPS(_name, _inner, _max) BPF_TABLE("array_of_maps$" _inner, int, int, _name, _max)
#define _HARKEN_MAPS2(_n, _inner) BPF_TABLE("hash_of_maps$" _inner, int, int, _n, 10240)
#define _HARKEN_MAPS3(_n, _k, _inner) BPF_TABLE("hash_of_maps$" _inner, _k, int, _n, 10240)
#define _HARKEN_MAPS4(_n, _k, _inner, _m) BPF_TABLE("hash_of_maps$" _inner, _k, int, _n, _m)
#define BPF_HASH_OF_MAPS(...) _HARKEN_CHOOSE(__VA_ARGS__, _HARKEN_MAPS4, _HARKEN_MAPS3, _HARKEN_MAPS2, 0)(__VA_ARGS__)

#define BPF_PERF_OUTPUT(_name) _HARKEN_TABLE("perf_output", int key; u32 leaf; \
  int (*perf_submit)(void *, void *, u32); int (*perf_submit_skb)(void *, u32, void *, u32);, _name, 0, 0)
#define BPF_RINGBUF_OUTPUT(_name, _pages) _HARKEN_TABLE("ringbuf", int key; u32 leaf; \
  int (*ringbuf_output)(void *, u64, u64); void *(*ringbuf_reserve)(u64); void (*ringbuf_discard)(void *, u64); \
  void (*ringbuf_submit)(void *, u64); u64 (*ringbuf_query)(u64);, _name, (_pages) * _HARKEN_PAGE_SIZE, 0)
#define BPF_PERF_ARRAY(_name, _max) _HARKEN_TABLE("perf_array", int key; u32 leaf; \
  u64 (*perf_read)(int); int (*perf_counter_value)(int, void *, u32);, _name, _max, 0)
#define BPF_CGROUP_ARRAY(_name, _max) _HARKEN_TABLE("cgroup_array", int key; u32 leaf; int (*check_current_task)(int);, _name, _max, 0)
#define BPF_QUEUESTACK(_type, _name, _leaf, _max, _flags) _HARKEN_TABLE(_type, _leaf leaf; \
  int (*peek)(_leaf *); int (*pop)(_leaf *); int (*push)(_leaf *, u64);, _name, _max, _flags)
#define _HARKEN_QUEUE3(_t, _n, _v, _m) BPF_QUEUESTACK(_t, _n, _v, _m, 0)
#define _HARKEN_QUEUE4(_t, _n, _v, _m, _f) BPF_QUEUESTACK(_t, _n, _v, _m, _f)
#define BPF_QUEUE(...) _HARKEN_CHOOSE(__VA_ARGS__, _HARKEN_QUEUE4, _HARKEN_QUEUE3, 0, 0)("queue", __VA_ARGS__)
#define BPF_STACK(...) _HARKEN_CHOOSE(__VA_ARGS__, _HARKEN_QUEUE4, _HARKEN_QUEUE3, 0, 0)("stack", __VA_ARGS__)
#define BPF_QUEUESTACK_PINNED(_type, _name, _leaf, _max, _flags, _path) BPF_QUEUESTACK(_type ":" _path, _name, _leaf, _max, _flags)
#define BPF_QUEUESTACK_PUBLIC(_type, _name, _leaf, _max, _flags) \
  BPF_QUEUESTACK(_type, _name, _leaf, _max, _flags); _HARKEN_SCOPE("public", _name)
#define BPF_QUEUESTACK_SHARED(_type, _name, _leaf, _max, _flags) \
  BPF_QUEUESTACK(_type, _name, _leaf, _max, _flags); _HARKEN_SCOPE("shared", _name)
#define BPF_XDP_REDIRECT_MAP(_type, _leaf, _name, _max) \
  _HARKEN_TABLE(_type, u32 key; _leaf leaf; u64 (*redirect_map)(int, int);, _name, _max, 0)
#define BPF_DEVMAP(_name, _max) BPF_XDP_REDIRECT_MAP("devmap", int, _name, _max)
#define BPF_CPUMAP(_name, _max) BPF_XDP_REDIRECT_MAP("cpumap", u32, _name, _max)
#define _HARKEN_XSK(_n, _m, _path) \
  _HARKEN_TABLE("xskmap" _path, u32 key; int leaf; int *(*lookup)(int *); u64 (*redirect_map)(int, int);, _n, _m, 0)
#define _HARKEN_XSK2(_n, _m) _HARKEN_XSK(_n, _m, "")
#define _HARKEN_XSK3(_n, _m, _path) _HARKEN_XSK(_n, _m, ":" _path)
#define BPF_XSKMAP(...) _HARKEN_CHOOSE(__VA_ARGS__, 0, _HARKEN_XSK3, _HARKEN_XSK2, 0)(__VA_ARGS__)
#define BPF_SOCKMAP(_name, _max) _HARKEN_TABLE("sockmap", u32 key; int leaf; int (*update)(u32 *, int *); int (*delete)(u32 *); \
  int (*sock_map_update)(void *, void *, u64); u64 (*sk_redirect_map)(void *, u32, u64);, _name, _max, 0)
#define _HARKEN_SOCKHASH(_n, _k, _m) _HARKEN_TABLE("sockhash", _k key; int leaf; int (*update)(_k *, int *); int (*delete)(_k *); \
  int (*sock_hash_update)(void *, void *, u64); int (*msg_redirect_hash)(void *, void *, u64); \
  int (*sk_redirect_hash)(void *, void *, u64);, _n, _m, 0)
#define _HARKEN_SOCKHASH1(_n) _HARKEN_SOCKHASH(_n, u32, 10240)
#define _HARKEN_SOCKHASH2(_n, _k) _HARKEN_SOCKHASH(_n, _k, 10240)
#define _HARKEN_SOCKHASH3(_n, _k, _m) _HARKEN_SOCKHASH(_n, _k, _m)
#define BPF_SOCKHASH(...) _HARKEN_CHOOSE(__VA_ARGS__, 0, _HARKEN_SOCKHASH3, _HARKEN_SOCKHASH2, _HARKEN_SOCKHASH1)(__VA_ARGS__)
#define _HARKEN_STORAGE(_t, _n, _v) _HARKEN_TABLE(#_t, int key; _v leaf; void *(*_t##_get)(void *, void *, int); \
  int (*_t##_delete)(void *);, _n, 0, 1)
#define BPF_SK_STORAGE(_name, _leaf) _HARKEN_STORAGE(sk_storage, _name, _leaf)
#define BPF_INODE_STORAGE(_name, _leaf) _HARKEN_STORAGE(inode_storage, _name, _leaf)
#define BPF_TASK_STORAGE(_name, _leaf) _HARKEN_STORAGE(task_storage, _name, _leaf)
#define _HARKEN_CGROUP(_t, _n, _v) _HARKEN_TABLE(_t, struct bpf_cgroup_storage_key key; _v leaf; \
  _v *(*lookup)(struct bpf_cgroup_storage_key *); int (*update)(struct bpf_cgroup_storage_key *, _v *); \
  void *(*get_local_storage)(u64);, _n, 0, 0)
#define BPF_CGROUP_STORAGE(_name, _leaf) _HARKEN_CGROUP("cgroup_storage", _name, _leaf)
#define BPF_PERCPU_CGROUP_STORAGE(_name, _leaf) _HARKEN_CGROUP("percpu_cgroup_storage", _name, _leaf)
"""

#: Headers of packets for programs that read them through a cursor; fields stand in the order of the wire, highest bit first.
PACKETS = r"""
#define BPF_PACKET_HEADER __attribute__((packed, annotate("harken.packet")))
struct ethernet_t { unsigned long long dst:48; unsigned long long src:48; unsigned int type:16; } BPF_PACKET_HEADER;
struct dot1q_t { unsigned short pri:3; unsigned short cfi:1; unsigned short vlanid:12; unsigned short type; } BPF_PACKET_HEADER;
struct arp_t { unsigned short htype; unsigned short ptype; unsigned char hlen; unsigned char plen; unsigned short oper;
  unsigned long long sha:48; unsigned long long spa:32; unsigned long long tha:48; unsigned int tpa; } BPF_PACKET_HEADER;
struct ip_t { unsigned char ver:4; unsigned char hlen:4; unsigned char tos; unsigned short tlen; unsigned short identification;
  unsigned short ffo_unused:1; unsigned short df:1; unsigned short mf:1; unsigned short foffset:13; unsigned char ttl;
  unsigned char nextp; unsigned short hchecksum; unsigned int src; unsigned int dst; } BPF_PACKET_HEADER;
struct udp_t { unsigned short sport; unsigned short dport; unsigned short length; unsigned short crc; } BPF_PACKET_HEADER;
struct tcp_t { unsigned short src_port; unsigned short dst_port; unsigned int seq_num; unsigned int ack_num; unsigned char offset:4;
  unsigned char reserved:4; unsigned char flag_cwr:1; unsigned char flag_ece:1; unsigned char flag_urg:1; unsigned char flag_ack:1;
  unsigned char flag_psh:1; unsigned char flag_rst:1; unsigned char flag_syn:1; unsigned char flag_fin:1; unsigned short rcv_wnd;
  unsigned short cksum; unsigned short urg_ptr; } BPF_PACKET_HEADER;
struct icmp_t { unsigned char type; unsigned char code; unsigned short checksum; } BPF_PACKET_HEADER;
struct vxlan_t { unsigned int rsv1:4; unsigned int iflag:1; unsigned int rsv2:3; unsigned int rsv3:24; unsigned int key:24;
  unsigned int rsv4:8; } BPF_PACKET_HEADER;
struct vxlan_gbp_t { unsigned int gflag:1; unsigned int rsv1:3; unsigned int iflag:1; unsigned int rsv2:4; unsigned int dflag:1;
  unsigned int rsv3:2; unsigned int aflag:1; unsigned int rsv4:3; unsigned int tag:16; unsigned int key:24; unsigned int rsv5:8;
} BPF_PACKET_HEADER;
"""

#: Marks a struct as a packet's header.
PACKET_MARK = "harken.packet"

COMMON = r"""
/* -- language */
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define __maybe_unused __attribute__((unused))
#define __packed __attribute__((packed))
#define __aligned(x) __attribute__((aligned(x)))
#define __weak __attribute__((weak))
#define __user
#define __kernel
#define __iomem
#define __percpu
#define __rcu
#define __force
#define __bitwise
#define __init
#define __exit
#define __must_check
#define BCC_SEC(_name) __attribute__((section(_name), used))
#define SEC(_name) __attribute__((section(_name), used))
#define NULL ((void *)0)
#define offsetof(_type, _member) __builtin_offsetof(_type, _member)
#define container_of(_pointer, _type, _member) ((_type *)((char *)(_pointer) - __builtin_offsetof(_type, _member)))
#define likely(_x) __builtin_expect(!!(_x), 1)
#define unlikely(_x) __builtin_expect(!!(_x), 0)
#define READ_ONCE(_x) (_x)
#define WRITE_ONCE(_x, _value) ((_x) = (_value))
#define barrier() __asm__ volatile("" ::: "memory")
#define lock_xadd(_pointer, _value) ((void)__sync_fetch_and_add(_pointer, _value))
#define KERNEL_VERSION(_a, _b, _c) (((_a) << 16) + ((_b) << 8) + ((_c) > 255 ? 255 : (_c)))
typedef _Bool bool;
#define true 1
#define false 0
#define BPF_MAX_STACK_DEPTH 127
#define CUR_CPU_IDENTIFIER 0xffffffffUL
struct bpf_stacktrace { u64 ip[BPF_MAX_STACK_DEPTH]; };

/* -- probes */
#define TRACEPOINT_PROBE(_category, _event) \
  int tracepoint__##_category##__##_event(struct tracepoint__##_category##__##_event *args)
#define RAW_TRACEPOINT_PROBE(_event) int raw_tracepoint__##_event(struct bpf_raw_tracepoint_args *ctx)
#define BPF_PROG(_name, _args...) int _name(unsigned long long *ctx, ##_args)
#define KFUNC_PROBE(_event, _args...) BPF_PROG(kfunc__vmlinux__##_event, ##_args)
#define KRETFUNC_PROBE(_event, _args...) BPF_PROG(kretfunc__vmlinux__##_event, ##_args)
#define MODULE_KFUNC_PROBE(_module, _event, _args...) BPF_PROG(kfunc__##_module##__##_event, ##_args)
#define MODULE_KRETFUNC_PROBE(_module, _event, _args...) BPF_PROG(kretfunc__##_module##__##_event, ##_args)
#define KMOD_RET(_event, _args...) BPF_PROG(kmod_ret__vmlinux__##_event, ##_args)
#define MODULE_KMOD_RET(_module, _event, _args...) BPF_PROG(kmod_ret__##_module##__##_event, ##_args)
#define LSM_PROBE(_event, _args...) BPF_PROG(lsm__##_event, ##_args)
#define BPF_ITER(_target) int bpf_iter__##_target(struct bpf_iter__##_target *ctx)
#define TP_DATA_LOC_READ_CONST(_to, _field, _length) do { \
  unsigned short _offset = args->data_loc_##_field & 0xffff; \
  bpf_probe_read((void *)(_to), (_length), (char *)args + _offset); } while (0)
#define TP_DATA_LOC_READ(_to, _field) do { \
  unsigned short _offset = args->data_loc_##_field & 0xffff, _length = args->data_loc_##_field >> 16; \
  bpf_probe_read((void *)(_to), _length, (char *)args + _offset); } while (0)
#define TP_DATA_LOC_READ_STR(_to, _field, _length) do { \
  unsigned short _offset = args->data_loc_##_field & 0xffff; \
  bpf_probe_read_str((void *)(_to), (_length), (char *)args + _offset); } while (0)

/* -- functions of the dialect */
int bpf_usdt_readarg(int, void *, void *);
int bpf_usdt_readarg_p(int, void *, void *, u64);
int bpf_num_cpus(void);
unsigned int bpf_log2(unsigned int);
unsigned int bpf_log2l(unsigned long);
u64 load_byte(void *, u64);
u64 load_half(void *, u64);
u64 load_word(void *, u64);
u64 load_dword(void *, u64);
u64 bpf_dext_pkt(void *, u64, u64, u64);
void bpf_dins_pkt(void *, u64, u64, u64, u64);
#define cursor_advance(_cursor, _length) ({ void *_here = _cursor; _cursor += _length; _here; })

/* -- byte order */
#define bpf_ntohs(_x) ((u16)__builtin_bswap16(_x))
#define bpf_ntohl(_x) ((u32)__builtin_bswap32(_x))
#define bpf_ntohll(_x) ((u64)__builtin_bswap64(_x))
#define bpf_htons(_x) bpf_ntohs(_x)
#define bpf_htonl(_x) bpf_ntohl(_x)
#define bpf_htonll(_x) bpf_ntohll(_x)
#define bpf_ntoh128(_x) _harken_swap128(_x)
#define bpf_hton128(_x) _harken_swap128(_x)
static inline unsigned __int128 _harken_swap128(unsigned __int128 x) {
  return (unsigned __int128)__builtin_bswap64((u64)x) << 64 | __builtin_bswap64((u64)(x >> 64));
}
"""
