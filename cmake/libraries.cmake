# Libraries from Debian packages, each as an imported target PkgConfig::NAME or dep_NAME.
find_package(PkgConfig REQUIRED)
find_package(Python3 REQUIRED COMPONENTS Interpreter)
find_package(Threads REQUIRED)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium)
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(FUSE3 REQUIRED IMPORTED_TARGET fuse3)
pkg_check_modules(SECCOMP REQUIRED IMPORTED_TARGET libseccomp)
pkg_check_modules(LMDB REQUIRED IMPORTED_TARGET lmdb)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(MSGPACK REQUIRED IMPORTED_TARGET msgpack)

# libev ships no .pc file.
find_library(EV_LIBRARY ev REQUIRED)
find_path(EV_INCLUDE ev.h REQUIRED)
add_library(dep_ev INTERFACE)
target_link_libraries(dep_ev INTERFACE ${EV_LIBRARY})
target_include_directories(dep_ev INTERFACE ${EV_INCLUDE})
