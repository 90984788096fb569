# Compiler and linker flags of every target.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
include(CheckPIESupported)
check_pie_supported()

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")

add_compile_definitions(_GNU_SOURCE _FILE_OFFSET_BITS=64 BAZIL_VERSION="${PROJECT_VERSION}")
include_directories(${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
add_compile_options(-Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wvla
  -Wwrite-strings -Wpointer-arith -Wformat=2 -Wundef -Wno-unused-parameter
  -fno-strict-aliasing -fno-common -fvisibility=hidden)
if(BAZIL_WERROR)
  add_compile_options(-Werror)
endif()

if(BAZIL_FUZZ)
  # Coverage of every library, or the fuzzer searches blindly.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(BAZIL_SANITIZE)
  add_compile_options(-fsanitize=${BAZIL_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${BAZIL_SANITIZE})
  add_compile_definitions(BAZIL_SANITIZED)
else()
  add_compile_options(-fstack-protector-strong -fstack-clash-protection -fcf-protection)
  # clang has it without a flag to say that one really wants it only since 16.
  if(CMAKE_C_COMPILER_ID STREQUAL GNU OR CMAKE_C_COMPILER_VERSION VERSION_GREATER_EQUAL 16)
    add_compile_options(-ftrivial-auto-var-init=zero)
  endif()
  add_compile_options($<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE>
    $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
  add_link_options(-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,separate-code)
endif()

# Which build a program is of: its version and what its processes say to each other. Workers of another one than
# the supervisor's are refused.
file(GLOB bazil_formats CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/ipc/*.msg)
set(bazil_text "")
foreach(file ${bazil_formats} ${CMAKE_SOURCE_DIR}/stored/intake.h ${CMAKE_SOURCE_DIR}/ipc/ring.h)
  set_property(DIRECTORY ${CMAKE_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(SHA256 ${file} sum)
  string(APPEND bazil_text ${sum})
endforeach()
string(SHA256 sum "${bazil_text}")
string(SUBSTRING ${sum} 0 12 sum)
set(BAZIL_BUILD "${PROJECT_VERSION}-${sum}")
