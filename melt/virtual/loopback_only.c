/* Preloaded into a daemon that would listen on every interface without asking who is there: whatever it binds is bound to
 * loopback, and what is not IPv4, IPv6 or a Unix socket (a virtual machine's host, for one) is refused. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

typedef int binder(int, const struct sockaddr *, socklen_t);

int bind(int fd, const struct sockaddr *address, socklen_t length) {
  binder *real = (binder *)dlsym(RTLD_NEXT, "bind");
  if (real == NULL || address == NULL) {
    errno = EINVAL;
    return -1;
  }
  if (address->sa_family == AF_UNIX || address->sa_family == AF_NETLINK) return real(fd, address, length);
  if (address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
    struct sockaddr_in own;
    memcpy(&own, address, sizeof own);
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return real(fd, (struct sockaddr *)&own, sizeof own);
  }
  if (address->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
    struct sockaddr_in6 own;
    memcpy(&own, address, sizeof own);
    /* the IPv4 loopback as IPv6 writes it: a listener for both is reached at 127.0.0.1, as it was before */
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &own.sin6_addr);
    return real(fd, (struct sockaddr *)&own, sizeof own);
  }
  errno = EAFNOSUPPORT;
  return -1;
}
