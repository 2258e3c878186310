/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "daemon/answer.h"
#include "daemon/daemon.h"
#include "daemon/holder.h"
#include "daemon/note.h"
#include "daemon/steps.h"
#include "daemon/terms.h"

#define FIT_COUNT_MAX 1024

static struct holder *find_by_id(struct daemon *daemon, const char *what)
{
    uint64_t id = 0;
    char rest = 0;

    /* NOLINTNEXTLINE(cert-err34-c): what does not match is no id */
    if (sscanf(what, "l%" SCNu64 "%c", &id, &rest) != 1)
        return NULL;
    return holder_find(&daemon->holders, id);
}

struct holder *control_find_holder(struct daemon *daemon, const char *what)
{
    struct holder *found = find_by_id(daemon, what);
    struct holder *holder = NULL;

    if (found)
        return found;
    LIST_FOREACH(holder, &daemon->holders.all, entry) {
        if (!holder->is_released && strcmp(holder->name, what) == 0 &&
            (!found || holder->id > found->id))
            found = holder;
    }
    return found;
}

static bool may_command(const struct daemon *daemon, const struct api_peer *peer,
                        const struct holder *holder)
{
    return peer->uid == 0 || peer->uid == holder->uid ||
           (daemon->options.scope == SCOPE_USER && peer->uid == geteuid());
}

typedef void command_function(struct holder *holder, const char *reason);

static void command_trim(struct holder *holder, const char *reason)
{
    note_holder(holder, "asked_trim", 0, reason);
    answer_amount(holder->session, MESSAGE_TRIM, UINT64_MAX);
}

/* Everything that is meant, as far as the peer may. */
static int command_all(struct daemon *daemon, const struct api_peer *peer, const char *what,
                       command_function *command, const char *reason, struct error *err)
{
    struct holder *by_id = find_by_id(daemon, what);
    struct holder *holder = LIST_FIRST(&daemon->holders.all);
    int asked_count = 0;
    int denied_count = 0;

    while (holder) {
        struct holder *next = LIST_NEXT(holder, entry);
        const bool is_meant =
            !holder->is_released && (by_id ? holder == by_id : strcmp(holder->name, what) == 0);
        if (is_meant && may_command(daemon, peer, holder)) {
            command(holder, reason);
            asked_count++;
        } else if (is_meant) {
            denied_count++;
        }
        holder = next;
    }
    daemon_pump(daemon);
    if (asked_count > 0)
        return asked_count;
    if (denied_count > 0)
        return error_set(err, -EPERM, "%.64s belongs to another user; only they and root may",
                         what);
    return error_set(err, -ENOENT, "nobody holds or waits under the name %.64s; see brim ps", what);
}

static int answer_count(int count, const char *verb, const char *what, json_t **ret_json,
                        struct error *err)
{
    char text[160];

    (void)snprintf(text, sizeof(text), "asked %.64s%s to %s", what, count > 1 ? " (several)" : "",
                   verb);
    *ret_json = json_pack("{s:i, s:o}", "asked", count, "text", api_text(text));
    return *ret_json ? 0 : error_set(err, -ENOMEM, "out of memory");
}

static int control_stop(void *user, const struct api_peer *peer, const char *name,
                        json_t **ret_json, struct error *err)
{
    char reason[96];
    int r = 0;

    (void)snprintf(reason, sizeof(reason), "brim stop, by uid %u (pid %d)", (unsigned)peer->uid,
                   (int)peer->pid);
    r = command_all(user, peer, name, holder_stop, reason, err);
    if (r < 0)
        return r;
    return answer_count(r, "stop", name, ret_json, err);
}

static int control_trim(void *user, const struct api_peer *peer, const char *name,
                        json_t **ret_json, struct error *err)
{
    char reason[96];
    int r = 0;

    (void)snprintf(reason, sizeof(reason), "brim trim, by uid %u (pid %d)", (unsigned)peer->uid,
                   (int)peer->pid);
    r = command_all(user, peer, name, command_trim, reason, err);
    if (r < 0)
        return r;
    return answer_count(r, "trim", name, ret_json, err);
}

static int control_note(void *user, const struct api_peer *peer, const char *text,
                        json_t **ret_json, struct error *err)
{
    char name[32];
    const struct event event = { .kind = "noted", .name = name, .gpu = -1, .text = text };

    (void)snprintf(name, sizeof(name), "pid %d", (int)peer->pid);
    note_plain(user, &event);
    *ret_json = json_pack("{s:s}", "text", "noted");
    return *ret_json ? 0 : error_set(err, -ENOMEM, "out of memory");
}

static int control_shutdown(void *user, const struct api_peer *peer, json_t **ret_json,
                            struct error *err)
{
    struct daemon *daemon = user;

    if (peer->uid != 0 && peer->uid != geteuid())
        return error_set(err, -EPERM, "this brimd belongs to uid %u; only they and root may end it",
                         (unsigned)geteuid());
    *ret_json = json_pack("{s:s}", "text", "brimd ends; what it granted stays valid");
    if (!*ret_json)
        return error_set(err, -ENOMEM, "out of memory");
    daemon_end_soon(daemon);
    return 0;
}

static bool control_refresh(void *user, void (*on_fresh)(void *context), void *context)
{
    return sampler_refresh(user, on_fresh, context);
}

/* How many such leases one gpu could take from now on: what is free for leases without bursts, less
 * what law 2 keeps for the largest burst beyond what it keeps already. */
static uint64_t count_on_gpu(const struct daemon *daemon, uint32_t gpu, uint64_t resident_bytes,
                             uint64_t burst_bytes)
{
    struct budget_gpu_view view;
    uint64_t kept_bytes = 0;

    budget_view_gpu(daemon->budget, gpu, &view);
    if (!view.is_managed)
        return 0;
    if (burst_bytes > view.largest_burst_bytes)
        kept_bytes = burst_bytes - view.largest_burst_bytes;
    return view.free_bytes > kept_bytes ? (view.free_bytes - kept_bytes) / resident_bytes : 0;
}

static uint64_t count_fits(const struct daemon *daemon, const struct claim *claim)
{
    const uint64_t resident_bytes = claim->parts[0].resident_bytes;
    uint64_t count = 0;

    for (uint32_t gpu = 0; gpu < daemon->gpus.count; gpu++) {
        if (claim->parts[0].gpu == CLAIM_GPU_ANY || claim->parts[0].gpu == gpu)
            count += count_on_gpu(daemon, gpu, resident_bytes, claim->parts[0].burst_bytes);
    }
    return count < FIT_COUNT_MAX ? count : FIT_COUNT_MAX;
}

static const char *fit_answer(enum refusal_kind kind)
{
    switch (kind) {
    case REFUSAL_NONE:
        return "fits";
    case REFUSAL_NEVER_FITS:
    case REFUSAL_NO_GPU:
    case REFUSAL_BAD_CLAIM:
        return "never";
    case REFUSAL_NO_ROOM:
    case REFUSAL_NO_PROGRESS:
    case REFUSAL_BEHIND:
    case REFUSAL_LOAD_WINDOW:
    case REFUSAL_STALE_FACTS:
    case REFUSAL_OVERCOMMITTED:
    case REFUSAL_BAD_STATE:
    case REFUSAL_QUEUE_FULL:
    case REFUSAL_CANCELLED:
        break;
    }
    return "waits";
}

static int control_fit(void *user, uint64_t resident_bytes, uint64_t burst_bytes, const char *gpu,
                       json_t **ret_json, struct error *err)
{
    struct daemon *daemon = user;
    struct message_claim terms = { .resident_bytes = resident_bytes, .burst_bytes = burst_bytes };
    struct refusal refusal = { 0 };
    struct claim claim;
    char text[MESSAGE_REASON_BYTES];
    uint64_t count = 0;

    if (resident_bytes == 0)
        return error_set(err, -EINVAL, "resident must be more than 0 bytes");
    (void)snprintf(terms.gpu, sizeof(terms.gpu), "%s", gpu ? gpu : "");
    if (terms_to_claim(&daemon->gpus, &terms, &claim, text, sizeof(text)) < 0)
        return error_set(err, -EINVAL, "%s", text);
    (void)snprintf(claim.name, sizeof(claim.name), "such a lease"); /* the subject of the reason */
    budget_probe(daemon->budget, &claim, clock_now_ms(), &refusal);
    if (refusal.kind == REFUSAL_NONE) {
        count = count_fits(daemon, &claim);
        count = count == 0 ? 1 : count;
        (void)snprintf(text, sizeof(text), "%" PRIu64 " of them would fit now", count);
    } else {
        (void)reason_text(daemon, &refusal, text, sizeof(text));
    }
    *ret_json = json_pack("{s:s, s:I, s:o}", "answer", fit_answer(refusal.kind), "count",
                          (json_int_t)count, "text", api_text(text));
    return *ret_json ? 0 : error_set(err, -ENOMEM, "out of memory");
}

static void control_steps_begin(void *user)
{
    steps_begin(user);
}

struct api_source control_source(struct daemon *daemon)
{
    return (struct api_source){
        .user = daemon,
        .is_for_other_uids = daemon->options.scope == SCOPE_SYSTEM,
        .refresh = control_refresh,
        .status = control_status,
        .why = control_why,
        .fit = control_fit,
        .stop = control_stop,
        .trim = control_trim,
        .note = control_note,
        .shutdown = control_shutdown,
        .steps = daemon->steps,
        .steps_begin = control_steps_begin,
    };
}
