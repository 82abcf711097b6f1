// What verifiers are strict about, written the ways C programs write it: every function must be accepted by every kernel.
#include <uapi/linux/ptrace.h>
#include <linux/sched.h>
#include <linux/fs.h>
#include <linux/dcache.h>

struct table_t { u64 n; u32 counts[16]; char name[64]; u8 kinds[4]; };
struct event_t { u64 id; u32 a:5, b:7, rest:20; char comm[16]; char path[300]; u8 tail; };
struct pair_t { u64 first, second; };

BPF_HASH(tables, u32, struct table_t);
BPF_HASH(pairs, u64, struct pair_t);
BPF_PERCPU_ARRAY(buffers, struct event_t, 1);
BPF_PERF_OUTPUT(events);
BPF_HISTOGRAM(sizes);

int masked_index(struct pt_regs *ctx, int n, u8 small) {
  u32 zero = 0;
  struct table_t *t = tables.lookup(&zero);
  if (!t)
    return 0;
  t->counts[n & 15]++;
  t->counts[(unsigned)n % 16] += small;
  t->counts[small & 7] -= t->kinds[n & 3];
  return t->name[n & 63];
}

int compared_index(struct pt_regs *ctx, int n, unsigned u, long l) {
  u32 zero = 0;
  struct table_t *t = tables.lookup(&zero);
  if (!t)
    return 0;
  if (n >= 0 && n < 16)
    t->counts[n] = 1;
  if (u < 16)
    t->counts[u] = 2;
  if (l > 0 && l <= 16)
    t->counts[l - 1] = 3;
  if (u > 15)
    u = 15;
  t->counts[u] = 4;
  unsigned char c = u;
  if (c >= sizeof(t->kinds))
    return 1;
  return t->kinds[c];
}

int index_in_memory(struct pt_regs *ctx) {
  u32 zero = 0;
  struct table_t *t = tables.lookup(&zero);
  if (!t || t->n < 1 || t->n > 16)
    return 0;
  t->counts[t->n - 1]++;
  if (t->kinds[0] < 4)
    t->kinds[t->kinds[0]] = 0;
  return 0;
}

int loops(struct pt_regs *ctx, int n) {
  u64 words[8] = {};
  char text[24];
  int i, sum = 0;
  for (i = 0; i < 8; i++)
    words[i] = i * n;
  if (n > 8)
    n = 8;
  for (i = 0; i < n; i++)
    sum += words[i];
  i = 0;
  while (i < 23) {
    text[i] = 'a' + (i & 15);
    if (i == (n & 15))
      break;
    i++;
  }
  text[i] = 0;
  for (u64 *p = words; p < words + 8; p += 2)
    sum ^= *p;
  for (char *c = text; c != &text[sizeof(text)]; c++)
    sum += *c;
#pragma unroll
  for (i = 0; i < 4; i++)
    sum += text[i * 2];
  return sum;
}

int lengths(struct pt_regs *ctx, char *name, unsigned long size) {
  u32 zero = 0;
  struct event_t *e = buffers.lookup(&zero);
  if (!e)
    return 0;
  int got = bpf_probe_read_user_str(e->path, sizeof(e->path), name);
  if (got > 0 && got < 256)
    events.perf_submit(ctx, e, 40 + got);
  size &= 255;
  bpf_probe_read_user(e->path, size, name);
  if (size > 64)
    size = 64;
  bpf_probe_read_kernel(e->path + 8, size, name);
  return 0;
}

int large_locals(struct pt_regs *ctx, char *name) {
  struct event_t e = {}, f;
  char more[400] = "text";
  e.id = bpf_get_current_pid_tgid();
  bpf_get_current_comm(&e.comm, sizeof(e.comm));
  bpf_probe_read_user_str(&more, sizeof(more), name);
  f = e;
  f.a = more[3];
  f.b = e.a + 1;
  f.tail = more[f.b];
  events.perf_submit(ctx, &f, sizeof(f));
  events.perf_submit(ctx, &more, sizeof(more));
  return 0;
}

static struct pair_t turned(struct pair_t p) { struct pair_t r = { p.second, p.first }; return r; }
static __always_inline int fill(struct pair_t *p, u64 n) { if (!p) return -1; p->first += n; return p->second; }

int pointers(struct pt_regs *ctx, int n) {
  u64 key = n;
  struct pair_t own = { 1, 2 }, *p = pairs.lookup(&key), *q;
  q = p ? p : &own;
  q->first = 7;
  q->second += fill(&own, 3) + fill(p, 4);
  own = turned(*q);
  if (p)
    *p = own;
  struct pair_t *made = pairs.lookup_or_try_init(&own.first, &own);
  if (made)
    __sync_fetch_and_add(&made->second, own.second);
  return 0;
}

int branches(struct pt_regs *ctx, int n, int m) {
  int sum = 0, tries = 0;
again:
  switch (n + tries) {
  case 0: sum = 3; break;
  case 1 ... 4: sum += m; /* fall through */
  case 5: sum <<= 2; break;
  case 9: case 11: case 13: goto out;
  case 20: sum = -1; break;
  case 100: return 1;
  default: sum ^= n;
  }
  if (++tries < 4 && sum < m)
    goto again;
out:
  sizes.increment(bpf_log2l(sum));
  return sum;
}

int pressure(struct pt_regs *ctx, u64 a, u64 b, u64 c, u64 d, u64 e) {
  u64 t = bpf_ktime_get_ns(), f = a ^ t, g = b + t, h = c * t, i = d - t, j = e | t;
  u64 now = bpf_ktime_get_ns();
  f += now & 1; g ^= f; h += g; i -= h; j *= i;
  struct pair_t p = { f + a * b, g + c * d + e };
  pairs.update(&j, &p);
  now = bpf_ktime_get_ns();
  return a + b + c + d + e + f + g + h + i + j + now;
}

int chains(struct pt_regs *ctx, struct file *file) {
  struct event_t e = {};
  struct dentry *d = file->f_path.dentry;
  for (int i = 0; i < 4 && d; i++) {
    struct qstr name = d->d_name;
    if (name.len == 0 || i * 64 + 64 > sizeof(e.path))
      break;
    bpf_probe_read_kernel_str(&e.path[i * 64], 64, name.name);
    d = d->d_parent;
  }
  struct task_struct *task = (struct task_struct *)bpf_get_current_task();
  e.id = task->real_parent->tgid;
  e.tail = file->f_inode->i_sb->s_id[3];
  events.perf_submit(ctx, &e, sizeof(e));
  return 0;
}
