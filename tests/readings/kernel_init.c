/* The first and only process of a virtual machine: loads drivers, sets a chip's registers, and prints sysfs files.
 *
 * /plan has a step on each line; a name ends at the next space, and what follows the last name is taken as it stands:
 *     load FILE PARAMETERS    puts a driver into the kernel
 *     chip DRIVER ADDRESS     makes the bus of i2c-stub hold a chip
 *     reg ADDRESS REG VALUE   sets a register of 16 bits (numbers in hex)
 *     write GLOB TEXT         writes a text to each file
 *     show GLOB               prints each file as `=== PATH`, or `=== PATH !! io: ERROR`, and what it holds
 *     say TEXT                prints a line
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/i2c-dev.h>
#include <linux/i2c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *error_name(void) { return errno == ENODATA ? "ENODATA" : strerror(errno); }

static void complain(const char *step, const char *what) { printf("FAILED %s %s: %s\n", step, what, error_name()); }

static int bus_number(void) {
    glob_t found;
    int number = -1;
    if (glob("/sys/class/i2c-dev/i2c-*/name", 0, NULL, &found) != 0) return -1;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char name[80] = "";
        FILE *file = fopen(found.gl_pathv[i], "r");
        if (file && fgets(name, sizeof name, file) && strstr(name, "stub")) number = atoi(found.gl_pathv[i] + 23);
        if (file) fclose(file);
    }
    globfree(&found);
    return number;
}

static void load(char *rest) {
    char *parameters = strchr(rest, ' ');
    if (parameters) *parameters++ = '\0';
    int fd = open(rest, O_RDONLY);
    if (fd < 0 || syscall(SYS_finit_module, fd, parameters ? parameters : "", 0)) complain("load", rest);
    if (fd >= 0) close(fd);
}

static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) complain("write", path);
    if (fd >= 0) close(fd);
}

static void chip(const char *what) {
    char path[80];
    snprintf(path, sizeof path, "/sys/bus/i2c/devices/i2c-%d/new_device", bus_number());
    put(path, what);
}

/* The chip sends the high byte first, SMBus the low one. */
static void set_register(const char *rest) {
    unsigned address, reg, value;
    char path[40];
    if (sscanf(rest, "%x %x %x", &address, &reg, &value) != 3) return;
    snprintf(path, sizeof path, "/dev/i2c-%d", bus_number());
    int fd = open(path, O_RDWR);
    union i2c_smbus_data data = {.word = (__u16)((value << 8 | value >> 8) & 0xffff)};
    struct i2c_smbus_ioctl_data call = {I2C_SMBUS_WRITE, (__u8)reg, I2C_SMBUS_WORD_DATA, &data};
    if (fd < 0 || ioctl(fd, I2C_SLAVE_FORCE, (unsigned long)address) || ioctl(fd, I2C_SMBUS, &call))
        complain("reg", rest);
    if (fd >= 0) close(fd);
}

static void show(const char *path) {
    char text[4096];
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n < 0) {
        printf("=== %s !! io: %s\n", path, error_name());
    } else {
        text[n] = '\0';
        printf("=== %s\n%s", path, text);
    }
    if (fd >= 0) close(fd);
}

static void each(char *pattern, const char *text) {
    glob_t found;
    if (glob(pattern, 0, NULL, &found) != 0) return;
    for (size_t i = 0; i < found.gl_pathc; i++) text ? put(found.gl_pathv[i], text) : show(found.gl_pathv[i]);
    globfree(&found);
}

int main(void) {
    char line[512];
    mkdir("/sys", 0755), mkdir("/dev", 0755);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    FILE *plan = fopen("/plan", "r");
    while (plan && fgets(line, sizeof line, plan)) {
        line[strcspn(line, "\n")] = '\0';
        char *rest = strchr(line, ' ');
        if (!rest) continue;
        *rest++ = '\0';
        char *text = strcmp(line, "write") ? NULL : strchr(rest, ' ');
        if (text) *text++ = '\0';
        if (!strcmp(line, "load")) load(rest);
        if (!strcmp(line, "chip")) chip(rest);
        if (!strcmp(line, "reg")) set_register(rest);
        if (!strcmp(line, "write") || !strcmp(line, "show")) each(rest, text);
        if (!strcmp(line, "say")) puts(rest);
    }
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    return 0;
}
