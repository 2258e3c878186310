/* SPDX-License-Identifier: Apache-2.0 */

/* brim-helper on emulated gpus: what the daemon gets when it asks. */

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

#include "check.h"
#include "driver/cuda.h"
#include "emulated.h"
#include "wire/facts.h"

#define MIB_BYTES (UINT64_C(1) << 20)

struct helper {
    pid_t pid;
    int fd;
    uint32_t seq;
};

static struct helper helper_start(void)
{
    int pair[2];
    struct helper helper = { 0 };

    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    (void)fflush(stdout);
    helper.pid = fork();
    CHECK(helper.pid >= 0);
    if (helper.pid == 0) {
        (void)dup2(pair[1], 0);
        (void)execl(HELPER_PATH, "brim-helper", "facts", (char *)NULL);
        _exit(127);
    }
    (void)close(pair[1]);
    helper.fd = pair[0];
    return helper;
}

static int helper_end(struct helper *helper)
{
    int status = -1;

    (void)close(helper->fd);
    CHECK(waitpid(helper->pid, &status, 0) == helper->pid);
    return status;
}

/* Asks once; fills gpus and returns the end packet. */
static struct facts_end ask(struct helper *helper, struct facts_gpu *gpus)
{
    const struct facts_request request = { .kind = FACTS_REQUEST, .seq = ++helper->seq };
    static struct facts_gpu packet;
    struct facts_end end = { 0 };
    uint32_t count = 0;

    CHECK(send(helper->fd, &request, sizeof(request), MSG_NOSIGNAL) == sizeof(request));
    for (;;) {
        const ssize_t got = recv(helper->fd, &packet, sizeof(packet), 0);
        CHECK(got >= 8);
        CHECK_EQ_U64(packet.seq, helper->seq);
        if (packet.kind == FACTS_END)
            break;
        CHECK(packet.kind == FACTS_GPU);
        CHECK_EQ_U64((uint64_t)got, offsetof(struct facts_gpu, processes) +
                                        packet.process_count * sizeof(packet.processes[0]));
        gpus[count++] = packet;
    }
    memcpy(&end, &packet, sizeof(end));
    CHECK_EQ_U64(end.gpu_count, count);
    return end;
}

static void hold(uint64_t bytes)
{
    struct driver_cuda driver;
    CUcontext context = NULL;
    CUdeviceptr address = 0;

    if (driver_cuda_open(&driver, NULL) == 0 && driver.primary_retain(&context, 0) == 0 &&
        driver.context_set(context) == 0 && driver.alloc(&address, bytes) == 0)
        emulated_say_and_wait('h');
    exit(EXIT_FAILURE);
}

static void test_facts_name_the_gpus_and_who_uses_them(void)
{
    static struct facts_gpu gpus[FACTS_GPU_MAX];
    struct helper helper = helper_start();
    struct facts_end end = ask(&helper, gpus);

    CHECK(end.status == 0 && end.gpu_count == 2);
    CHECK(strcmp(end.driver_version, "580.65.06") == 0);
    CHECK_EQ_U64(gpus[0].used_bytes, 0);
    CHECK_EQ_U64(gpus[1].index, 1);
    CHECK(strncmp(gpus[0].uuid, "GPU-", 4) == 0 && strcmp(gpus[0].uuid, gpus[1].uuid) != 0);

    struct emulated_child holder = emulated_spawn("hold");
    CHECK(emulated_hear(&holder) == 'h');
    end = ask(&helper, gpus);
    CHECK_EQ_U64(gpus[0].used_bytes, EMULATED_CONTEXT_BYTES + 200 * MIB_BYTES);
    CHECK_EQ_U64(gpus[0].capacity_bytes, EMULATED_CARD_BYTES);
    CHECK_EQ_U64(gpus[0].process_count, 1);
    CHECK_EQ_U64(gpus[0].processes[0].pid, (uint64_t)holder.pid);
    CHECK_EQ_U64(gpus[0].processes[0].used_bytes, gpus[0].used_bytes);
    CHECK(gpus[0].processes[0].has_bytes && gpus[0].has_process_bytes);
    CHECK_EQ_U64(gpus[1].used_bytes, 0);
    (void)emulated_end(&holder, 0);
    CHECK(helper_end(&helper) == 0);
}

static void test_garbage_ends_the_helper_not_the_machine(void)
{
    struct helper helper = helper_start();
    int status = 0;
    char byte = 0;

    CHECK(send(helper.fd, "garbage", 7, MSG_NOSIGNAL) == 7);
    CHECK(recv(helper.fd, &byte, 1, 0) <= 0);
    status = helper_end(&helper);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

static void test_without_a_driver_the_answer_says_so(void)
{
    static struct facts_gpu gpus[FACTS_GPU_MAX];
    char *const path = strdup(getenv("BRIM_EMU_SOCKET"));

    CHECK(unsetenv("BRIM_EMU_SOCKET") == 0);
    struct helper helper = helper_start();
    CHECK(setenv("BRIM_EMU_SOCKET", path, 1) == 0);
    free(path);
    const struct facts_end end = ask(&helper, gpus);
    CHECK(end.status == -ENOENT && end.gpu_count == 0);
    CHECK(strstr(end.problem, "nvmlInit"));
    CHECK(helper_end(&helper) == 0);
}

int main(int argc, char **argv)
{
    static const char *const options[] = { EMULATED_CARD, EMULATED_CARD, NULL };
    static const struct test_case cases[] = {
        TEST(test_facts_name_the_gpus_and_who_uses_them),
        TEST(test_garbage_ends_the_helper_not_the_machine),
        TEST(test_without_a_driver_the_answer_says_so),
    };

    emulated_become(argv, options);
    if (argc > 1)
        hold(200 * MIB_BYTES);
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
