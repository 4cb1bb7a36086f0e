// Fetches "/" of each name on standard input, a line each, with a look-up and a
// connection of its own, and writes the name with the HTTP status, or with what failed.
#define _POSIX_C_SOURCE 200809L
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void first(const char *name) {
	struct addrinfo want = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *found;
	int err = getaddrinfo(name, "80", &want, &found);
	if (err != 0) {
		printf("%s look-up: %s\n", name, gai_strerror(err));
		return;
	}
	int fd = -1;
	for (struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
		fd = socket(at->ai_family, at->ai_socktype, at->ai_protocol);
		if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) != 0) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(found);
	if (fd < 0) {
		printf("%s connect\n", name);
		return;
	}
	char text[1024];
	int length = snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name);
	size_t have = 0;
	if (write(fd, text, length) == length) {
		ssize_t n;
		while (have < sizeof text - 1 && (n = read(fd, text + have, sizeof text - 1 - have)) > 0)
			have += n;
	}
	close(fd);
	text[have] = 0;
	int status = 0;
	sscanf(text, "HTTP/1.1 %d", &status);
	printf("%s %d\n", name, status);
}

int main(void) {
	char name[300];
	while (fgets(name, sizeof name, stdin) != NULL) {
		name[strcspn(name, "\n")] = 0;
		first(name);
	}
	return 0;
}
