/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/holders.h"

#include <errno.h>
#include <stdlib.h>

#define BUCKETS_MIN 64

/* Ids and pids are handed out one after the other: their low bits spread evenly by themselves. */
static struct holder_list *bucket_of(const struct holders *holders, uint64_t id)
{
    return &holders->buckets[id & (holders->bucket_count - 1)];
}

static struct holder_list *root_bucket_of(const struct holders *holders, pid_t pid)
{
    return &holders->root_buckets[(size_t)pid & (holders->bucket_count - 1)];
}

static int buckets_new(struct holders *holders, size_t count)
{
    holders->buckets = calloc(count, sizeof(*holders->buckets));
    holders->root_buckets = calloc(count, sizeof(*holders->root_buckets));
    if (!holders->buckets || !holders->root_buckets) {
        free(holders->buckets);
        free(holders->root_buckets);
        holders->buckets = NULL;
        holders->root_buckets = NULL;
        return -ENOMEM;
    }
    holders->bucket_count = count;
    return 0;
}

int holders_init(struct holders *holders)
{
    *holders = (struct holders){ 0 };
    return buckets_new(holders, BUCKETS_MIN);
}

void holders_deinit(struct holders *holders)
{
    struct holder *holder = NULL;

    while ((holder = LIST_FIRST(&holders->all)))
        holder_free(holders, holder);
    free(holders->buckets);
    free(holders->root_buckets);
    free(holders->users);
    holders->buckets = NULL;
    holders->root_buckets = NULL;
    holders->users = NULL;
    holders->user_count = 0;
}

/* Where there is no memory for larger tables the old ones go on, slower. */
static void grow(struct holders *holders)
{
    struct holders larger = { 0 };
    struct holder *holder = NULL;

    if (buckets_new(&larger, holders->bucket_count * 2) < 0)
        return;
    LIST_FOREACH(holder, &holders->all, entry) {
        LIST_INSERT_HEAD(bucket_of(&larger, holder->id), holder, bucket);
        LIST_INSERT_HEAD(root_bucket_of(&larger, holder->root_pid), holder, root_bucket);
    }
    free(holders->buckets);
    free(holders->root_buckets);
    holders->buckets = larger.buckets;
    holders->root_buckets = larger.root_buckets;
    holders->bucket_count = larger.bucket_count;
}

static struct holder_user *user_of(const struct holders *holders, uid_t uid)
{
    for (size_t i = 0; i < holders->user_count; i++) {
        if (holders->users[i].uid == uid)
            return &holders->users[i];
    }
    return NULL;
}

size_t holders_of_user(const struct holders *holders, uid_t uid)
{
    const struct holder_user *user = user_of(holders, uid);

    return user ? user->count : 0;
}

static int count_in(struct holders *holders, uid_t uid)
{
    struct holder_user *user = user_of(holders, uid);

    if (!user) {
        struct holder_user *larger =
            reallocarray(holders->users, holders->user_count + 1, sizeof(*larger));
        if (!larger)
            return -ENOMEM;
        holders->users = larger;
        user = &larger[holders->user_count++];
        *user = (struct holder_user){ .uid = uid };
    }
    user->count++;
    return 0;
}

static void count_out(struct holders *holders, uid_t uid)
{
    struct holder_user *user = user_of(holders, uid);

    if (user && --user->count == 0)
        *user = holders->users[--holders->user_count];
}

int holder_new(struct holders *holders, uint64_t id, uid_t uid, struct holder **ret_lease)
{
    struct holder *holder = calloc(1, sizeof(*holder));

    if (!holder || count_in(holders, uid) < 0) {
        free(holder);
        return -ENOMEM;
    }
    holder->uid = uid;
    if (holders->count >= holders->bucket_count)
        grow(holders);
    holder->id = id;
    LIST_INSERT_HEAD(bucket_of(holders, id), holder, bucket);
    LIST_INSERT_HEAD(root_bucket_of(holders, 0), holder, root_bucket);
    LIST_INSERT_HEAD(&holders->all, holder, entry);
    holders->count++;
    *ret_lease = holder;
    return 0;
}

void holder_free(struct holders *holders, struct holder *holder)
{
    watch_end(&holder->process);
    if (holder->is_released)
        holders->draining_count--;
    holders->count--;
    count_out(holders, holder->uid);
    LIST_REMOVE(holder, bucket);
    LIST_REMOVE(holder, root_bucket);
    LIST_REMOVE(holder, entry);
    free(holder);
}

struct holder *holder_find(const struct holders *holders, uint64_t id)
{
    struct holder *holder = NULL;

    LIST_FOREACH(holder, bucket_of(holders, id), bucket) {
        if (holder->id == id)
            return holder;
    }
    return NULL;
}

void holder_set_root(struct holders *holders, struct holder *holder, pid_t pid,
                     uint64_t start_ticks)
{
    LIST_REMOVE(holder, root_bucket);
    holder->root_pid = pid;
    holder->root_ticks = start_ticks;
    LIST_INSERT_HEAD(root_bucket_of(holders, pid), holder, root_bucket);
}

struct holder *holder_next_of_root(const struct holders *holders, pid_t pid, uint64_t start_ticks,
                                   const struct holder *after)
{
    struct holder *holder =
        after ? LIST_NEXT(after, root_bucket) : LIST_FIRST(root_bucket_of(holders, pid));

    while (holder && (holder->root_pid != pid || holder->root_ticks != start_ticks))
        holder = LIST_NEXT(holder, root_bucket);
    return holder;
}
